"""Volumes in the formats that ITK writes, an independent reference."""

import numpy as np
import SimpleITK

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_itk(file, voxels, affine, *, packed=False):
    """Write a nibabel array; ITK counts left, posterior, superior. Return the file."""
    lps = _TO_LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(file), packed)
    return file
