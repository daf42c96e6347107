"""Resampling of whole volumes along their axes, one small matrix an axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sampling_matrix(
    num_out: int, num_in: int, *, zoom: float = 1.0, shift: float = 0.0, width: float = 0.7
) -> NDArray[np.float32]:
    """Build the weights that sample a line of voxels, voxel centres aligned.

    Args:
        num_out: Samples wanted.
        num_in: Voxels given.
        zoom: Extent of the samples as a share of the voxels' extent.
        shift: Offset of their centre, as a share of the voxels' extent.
        width: Half-width of the triangle that averages, in steps between samples; at least one
            voxel, which is linear interpolation.

    Returns:
        ``(num_out, num_in)`` float32, rows sum to 1; outside, the border goes on.
    """
    place = (0.5 + ((np.arange(num_out) + 0.5) / num_out - 0.5) * zoom + shift) * num_in - 0.5
    place = np.clip(place, 0, num_in - 1)
    reach = max(1.0, width * zoom * num_in / num_out)
    weights = np.maximum(1 - np.abs(place[:, np.newaxis] - np.arange(num_in)) / reach, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def resample(
    volume: NDArray[np.floating], matrices: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Apply one matrix to each of the first three axes; further axes stay as they are."""
    sampled: NDArray[Any] = np.ascontiguousarray(volume, np.float32)
    # The axis that shrinks most first: less is left for the others.
    for axis in sorted(range(3), key=lambda axis: matrices[axis].shape[0] / volume.shape[axis]):
        before, (side, *after) = sampled.shape[:axis], sampled.shape[axis:]
        # As products of whole planes, which need no copy with the axes in another order.
        planes = sampled.reshape(*before, side, -1)
        product = planes[..., 0] @ matrices[axis].T if not after else matrices[axis] @ planes
        sampled = product.reshape(*before, -1, *after)
    return np.asarray(sampled, np.float32)


def resample_to(volume: NDArray[np.floating], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Bring a volume onto a grid of another shape over the same box; further axes stay."""
    return resample(
        volume,
        [sampling_matrix(out, given) for out, given in zip(shape, volume.shape, strict=False)],
    )
