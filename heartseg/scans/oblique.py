"""Oblique scans: their angle to the patient's axes, and their resampling along these axes."""

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.errors import DataError
from heartseg.scans.volume import Volume, spacing_of

MOST_OBLIQUE_DEG = 20.0
"""Training turned hearts by less; a scan that is turned further is resampled straight first."""


def obliqueness_deg(affine: NDArray[np.float64]) -> float:
    """Return the largest angle between an array axis and the patient's axis nearest to it.

    Args:
        affine: ``(4, 4)`` from voxel indices to millimetres, not singular.
    """
    directions = affine[:3, :3] / spacing_of(affine)
    axes = io_orientation(affine)[:, 0].astype(int)
    cosines = [abs(directions[axis, column]) for column, axis in enumerate(axes)]
    return float(np.rad2deg(np.arccos(min(1.0, min(cosines)))))


def check_straight(affine: NDArray[np.float64], *, needed_by: str, source: str) -> None:
    """Check that a scan lies along the patient's axes, or nearly so.

    Args:
        affine: ``(4, 4)`` from voxel indices to millimetres, not singular.
        needed_by: What cannot use another scan, for the error.
        source: What to call the scan in the error, usually its file.

    Raises:
        DataError: If the scan is turned by more than ``MOST_OBLIQUE_DEG``.
    """
    degrees = obliqueness_deg(affine)
    if degrees > MOST_OBLIQUE_DEG:
        raise DataError(
            f"{source}: is turned by {degrees:.0f} degrees against the patient's axes; {needed_by} "
            f"needs a scan that is turned by {MOST_OBLIQUE_DEG:.0f} degrees or less. Resample the "
            "scan and its labels along the axes first"
        )


def straighten(image: Volume, longest_side: int) -> Volume:
    """Resample an oblique scan along the patient's axes.

    Args:
        image: The scan.
        longest_side: Largest number of voxels along an axis of the result.

    Returns:
        The scan on an isotropic grid whose axes run right, anterior and superior, and whose box
        holds the whole scan. Outside the scan its border voxels are repeated.
    """
    shape = np.array(image.voxels.shape)
    corners = np.array(np.meshgrid(*((-0.5, side - 0.5) for side in shape), indexing="ij"))
    world = image.affine[:3, :3] @ corners.reshape(3, 8) + image.affine[:3, 3:]
    low, high = world.min(axis=1), world.max(axis=1)
    # Isotropic voxels, as small as the smallest spacing unless the sides would get too long.
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
