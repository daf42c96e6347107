"""Resampling of whole volumes along their axes, with one small matrix per axis."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def sampling_matrix(
    num_out: int, num_in: int, *, zoom: float = 1.0, shift: float = 0.0, width: float = 0.7
) -> NDArray[np.float32]:
    """Build the weights that sample a line of voxels, with voxel centres aligned.

    Args:
        num_out: Number of samples.
        num_in: Number of voxels.
        zoom: Extent of the samples as a fraction of the extent of the voxels.
        shift: Offset of the centre of the samples, as a fraction of the extent of the voxels.
        width: Half-width of the triangular kernel, in steps between samples. It is never less
            than one voxel, which gives linear interpolation.

    Returns:
        ``(num_out, num_in)`` float32 weights; each row sums to 1. Beyond the last voxel its value
        is repeated.
    """
    place = (0.5 + ((np.arange(num_out) + 0.5) / num_out - 0.5) * zoom + shift) * num_in - 0.5
    place = np.clip(place, 0, num_in - 1)
    reach = max(1.0, width * zoom * num_in / num_out)
    weights = np.maximum(1 - np.abs(place[:, np.newaxis] - np.arange(num_in)) / reach, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def resample(
    volume: NDArray[np.floating], matrices: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Apply one matrix to each of the first three axes; further axes stay as they are.

    Args:
        volume: ``(X, Y, Z)`` or ``(X, Y, Z, ...)`` array.
        matrices: ``(X', X)``, ``(Y', Y)`` and ``(Z', Z)`` weights, as of ``sampling_matrix``.

    Returns:
        ``(X', Y', Z', ...)`` float32 array.
    """
    sampled: NDArray[Any] = np.ascontiguousarray(volume, np.float32)
    # The axis that shrinks most comes first, so that the later products are smaller.
    for axis in sorted(range(3), key=lambda axis: matrices[axis].shape[0] / volume.shape[axis]):
        before, (side, *after) = sampled.shape[:axis], sampled.shape[axis:]
        # Products of whole planes need no copy with the axes in another order.
        planes = sampled.reshape(*before, side, -1)
        product = planes[..., 0] @ matrices[axis].T if not after else matrices[axis] @ planes
        sampled = product.reshape(*before, -1, *after)
    return np.asarray(sampled, np.float32)


def resample_to(volume: NDArray[np.floating], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Resample a volume to another shape over the same box; further axes stay as they are."""
    return resample(
        volume,
        [sampling_matrix(out, given) for out, given in zip(shape, volume.shape, strict=False)],
    )
