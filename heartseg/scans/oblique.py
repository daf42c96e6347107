"""Scans that lie obliquely to the patient: laid straight, and their labels brought back."""

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.scans.volume import Volume, spacing_of


def obliqueness_deg(affine: NDArray[np.float64]) -> float:
    """Return the largest angle between an array axis and the patient's axis next to it."""
    directions = affine[:3, :3] / spacing_of(affine)
    axes = io_orientation(affine)[:, 0].astype(int)
    cosines = [abs(directions[axis, column]) for column, axis in enumerate(axes)]
    return float(np.rad2deg(np.arccos(min(1.0, min(cosines)))))


def lay_straight(image: Volume, longest_side: int) -> Volume:
    """Resample an oblique scan along the patient's axes; its border goes on where it ends.

    Args:
        image: The scan.
        longest_side: Voxels of the longest axis of the result, at most.
    """
    shape = np.array(image.voxels.shape)
    corners = np.array(np.meshgrid(*((-0.5, side - 0.5) for side in shape), indexing="ij"))
    world = image.affine[:3, :3] @ corners.reshape(3, 8) + image.affine[:3, 3:]
    low, high = world.min(axis=1), world.max(axis=1)
    # Isotropic, fine enough for the thinnest voxels, but no finer than wanted.
    step = max(float(image.spacing_mm.min()), float((high - low).max()) / longest_side)
    size = np.maximum(np.ceil((high - low) / step).astype(int), 1)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low + step / 2
    to_voxels = np.linalg.inv(image.affine) @ affine
    voxels = ndimage.affine_transform(
        image.voxels.astype(np.float32, copy=False),
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=tuple(size),
        order=1,
        mode="nearest",
    )
    return Volume(voxels, affine, image.header)
