"""What of a scan shows anything: margins of one value and planes of air are cut off."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.inference.views import Box
from heartseg.scans.intensity import rough_level

AIR = 0.15
"""A voxel that is darker than this fraction of blood may be air."""
LEAST_SIGNAL = 0.01
"""Planes in which no more than this fraction is brighter than air show nothing."""
LEAST_LEFT = 8
"""Planes that are left at least; otherwise none of an axis is left out."""
TRIMMED_SIDE = 96
"""Planes of air are searched among about this many voxels along an axis, which is fast."""


def trim_air(voxels: NDArray[np.floating]) -> Box:
    """Find the part of a scan that shows anything, without outer planes of zeros or of air.

    Args:
        voxels: ``(P, I, R)`` intensities.

    Returns:
        The voxels from the first plane with signal to the last along each axis; all of an axis
        where too little would be left.
    """
    outer = trim_margin(voxels)
    voxels = voxels[outer]
    steps = [max(1, side // TRIMMED_SIDE) for side in voxels.shape]
    coarse = np.asarray(voxels[:: steps[0], :: steps[1], :: steps[2]], np.float32)
    darkest = float(np.percentile(coarse, 1))
    coarse = np.maximum(coarse - min(darkest, 0.0), 0)
    # The mean of neighbours: single voxels of noise stay dark.
    bright = ndimage.uniform_filter(coarse, 3) > AIR * rough_level(coarse)
    if not bright.any():
        return outer
    first, second, third = (
        _shift(_find_signal(bright.mean(axis=_other_axes(axis)), side, step), part.start)
        for axis, (side, step, part) in enumerate(zip(voxels.shape, steps, outer, strict=True))
    )
    return first, second, third


def trim_margin(voxels: NDArray[np.floating]) -> Box:
    """Find the part of a scan within outer planes of one value: a margin changes nothing at all.

    Args:
        voxels: ``(X, Y, Z)`` intensities.

    Returns:
        The voxels within the margin; all of an axis where too little would be left.
    """
    shown = voxels != voxels[0, 0, 0]
    first, second, third = (
        _first_to_last(shown.any(axis=_other_axes(axis)), side)
        for axis, side in enumerate(voxels.shape)
    )
    return first, second, third


def _first_to_last(planes: NDArray[np.bool_], side: int) -> slice:
    found = np.flatnonzero(planes)
    if not found.size or found[-1] - found[0] + 1 < LEAST_LEFT:
        return slice(0, side)
    return slice(int(found[0]), int(found[-1]) + 1)


def _other_axes(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _shift(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _find_signal(fractions: NDArray[np.floating], side: int, step: int) -> slice:
    """Return the planes with signal of ``side`` planes, of which every ``step``-th was measured."""
    planes = np.flatnonzero(fractions > LEAST_SIGNAL)
    if not planes.size:
        return slice(0, side)
    # The planes that were not measured are kept; the first one has none before it.
    low = int(max(0, (planes[0] - 1) * step + 1)) if planes[0] else 0
    high = int(min(side, (planes[-1] + 1) * step))
    return slice(low, high) if high - low >= LEAST_LEFT else slice(0, side)
