"""Label maps on another grid of the same voxels: turned, flipped or cut out, never resampled."""

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from heartseg.errors import DataError

SAME_PLACE = 0.05
"""Voxel centres that are closer than this part of a voxel are the same."""


def place_labels(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    *,
    shape: tuple[int, ...],
    target: NDArray[np.float64],
    source: str,
) -> NDArray[np.uint8]:
    """Bring a label map onto a grid whose voxels are the same.

    Args:
        labels: ``(X, Y, Z)`` labels; their grid may be turned against the other, and may cover a
            part of it.
        affine: ``(4, 4)`` from voxel indices of ``labels`` to millimetres.
        shape: Number of voxels of the other grid along each axis.
        target: Its affine.
        source: What to call the label map in an error, usually its file.

    Returns:
        Labels of the wanted shape, 0 where ``labels`` does not reach.

    Raises:
        DataError: If the voxels do not coincide, or a labelled one lies outside of the grid.
    """
    turn = ornt_transform(io_orientation(affine), io_orientation(target))
    turned: NDArray[np.uint8] = apply_orientation(labels, turn)
    start = np.linalg.inv(target) @ affine @ inv_ornt_aff(turn, labels.shape)
    offset = np.rint(start[:3, 3]).astype(int)
    # How far the last voxel is from where equal grids would have it.
    steps = start[:3, :3] - np.eye(3)
    reach = np.abs(steps) @ np.array(turned.shape) + np.abs(start[:3, 3] - offset)
    if reach.max() > SAME_PLACE:
        raise DataError(
            f"{source}: its voxels do not coincide with those of the scan; expected a label map of "
            "the same grid"
        )
    low, high = np.maximum(offset, 0), np.minimum(offset + turned.shape, shape)
    inside = tuple(slice(a - o, max(a, b) - o) for a, b, o in zip(low, high, offset, strict=True))
    if np.count_nonzero(turned[inside]) != np.count_nonzero(turned):
        raise DataError(f"{source}: labels lie outside of the scan; expected one of the same grid")
    placed = np.zeros(shape, np.uint8)
    placed[tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))] = turned[inside]
    return placed
