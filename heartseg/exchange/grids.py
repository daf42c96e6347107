"""Label maps on another grid of the same voxels: turned, flipped or cut out, never resampled."""

from collections.abc import Sequence

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.scans.volume import MAX_BYTES, Volume, check_grid

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
    turned, offset = _turn(labels, affine, target, source=source)
    low, high = np.maximum(offset, 0), np.minimum(offset + turned.shape, shape)
    inside = tuple(slice(a - o, max(a, b) - o) for a, b, o in zip(low, high, offset, strict=True))
    if np.count_nonzero(turned[inside]) != np.count_nonzero(turned):
        raise DataError(f"{source}: labels lie outside of the scan; expected one of the same grid")
    placed = np.zeros(shape, np.uint8)
    placed[tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))] = turned[inside]
    return placed


def share_grid(label_maps: Sequence[Volume], *, sources: Sequence[str]) -> list[Volume]:
    """Bring label maps whose voxels coincide onto the smallest grid that holds all of them.

    Args:
        label_maps: The label maps, each with all that is labelled; the axes of the first count.
        sources: What to call them in an error, usually their files.

    Returns:
        The label maps, 0 where they did not reach; each with its own header.

    Raises:
        DataError: If the voxels do not coincide, or the grid would be too large.
    """
    first = label_maps[0]
    turned = [
        _turn(label_map.voxels, label_map.affine, first.affine, source=source)
        for label_map, source in zip(label_maps, sources, strict=True)
    ]
    low = np.min([offset for _, offset in turned], axis=0)
    high = np.max([offset + voxels.shape for voxels, offset in turned], axis=0)
    shape = tuple(int(side) for side in high - low)
    check_grid(shape, np.dtype(np.uint8), source=f"{sources[0]} and {sources[-1]}", most=MAX_BYTES)
    affine = first.affine.copy()
    affine[:3, 3] += first.affine[:3, :3] @ low
    shared = []
    for label_map, (voxels, offset) in zip(label_maps, turned, strict=True):
        placed = np.zeros(shape, np.uint8)
        start = offset - low
        placed[tuple(slice(a, a + n) for a, n in zip(start, voxels.shape, strict=True))] = voxels
        shared.append(Volume(placed, affine, label_map.header))
    return shared


def _turn(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    target: NDArray[np.float64],
    *,
    source: str,
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return labels along the axes of another grid, and which of its voxels their first one is."""
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
    return turned, offset
