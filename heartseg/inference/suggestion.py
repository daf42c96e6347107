"""Which slices of a scan to correct next: where the answer is least certain.

A drawn slice teaches most about its neighbours. So the slices divide the expected error into equal
parts, instead of being evenly spaced or standing side by side at the worst place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.inference.views import FINE_GRID, Box, View, matrices_onto, to_box
from heartseg.scans.axes import find_trained_axes

NUM_SLICES = 5
"""Slices that are suggested unless one asks for more or fewer."""
ANISOTROPIC = 1.2
"""A scan whose largest spacing exceeds the others by this factor is drawn across that axis."""
REACH_MM = 8.0
"""What is drawn explains two thirds of the doubt within this distance."""


@dataclass(frozen=True)
class SuggestedSlice:
    """A slice that is worth drawing.

    Attributes:
        axis: Axis of the scan's array that the slice is perpendicular to, 0 to 2.
        index: Its index along this axis, from 0.
        position_mm: Place of its centre in millimetres (right, anterior, superior).
        unsure_voxels: Voxels of the slice that are expected to be wrong.
    """

    axis: int
    index: int
    position_mm: tuple[float, float, float]
    unsure_voxels: float


def measure_doubt(
    probabilities: NDArray[np.float32],
    view: View,
    *,
    lit: Box,
    shape: tuple[int, int, int],
    affine: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Measure how many voxels of each slice are expected to be wrong.

    Args:
        probabilities: ``(*FINE_GRID, K)``, the average of several views of the box.
        view: The box, as a view of the lit part of the scan.
        lit: The part of the scan, with axes as in training, that was viewed.
        shape: Voxels of the whole scan along these axes.
        affine: ``(4, 4)`` from the scan's own voxel indices to millimetres.

    Returns:
        For each axis of the scan's own array, the expected number for each of its slices.
    """
    doubt = 1 - probabilities.max(axis=-1)
    cut = [len(range(*part.indices(side))) for part, side in zip(lit, shape, strict=True)]
    box = to_box(view, (cut[0], cut[1], cut[2]))
    matrices = matrices_onto(box, (cut[0], cut[1], cut[2]), view, FINE_GRID)
    profiles = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        along = matrices[axis] @ doubt.mean(axis=tuple(others))
        voxels = np.prod([box[a].stop - box[a].start for a in others])
        profile = np.zeros(shape[axis])
        start = (lit[axis].start or 0) + box[axis].start
        profile[start : start + len(along)] = along * voxels
        profiles.append(profile)
    first, second, third = (
        profiles[axis][::-1] if is_flipped else profiles[axis]
        for axis, is_flipped in find_trained_axes(affine)
    )
    return first, second, third


def suggest_slices(
    doubt: Sequence[NDArray[np.float64]],
    affine: NDArray[np.float64],
    *,
    count: int = NUM_SLICES,
    drawn: Sequence[Sequence[int]] = ((), (), ()),
) -> list[SuggestedSlice]:
    """Choose the slices to draw next, all perpendicular to one axis.

    Args:
        doubt: What ``measure_doubt`` gives.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        count: Number of slices.
        drawn: Indices of the slices along each axis that are drawn already.

    Returns:
        The slices in the order of their indices; fewer than ``count`` where the doubt lies on
        fewer slices, and none where there is no doubt.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axis = choose_axis(affine)
    profile = doubt[axis].copy()
    index = np.arange(len(profile))
    for known in drawn[axis]:
        profile *= 1 - np.exp(-np.abs(index - known) * spacing[axis] / REACH_MM)
    if profile.sum() <= 0:
        return []
    parts = np.cumsum(profile) / profile.sum()
    wanted = (np.arange(count) + 1) / (count + 1)
    chosen = np.unique(np.searchsorted(parts, wanted))
    middle = (np.array([len(profile) for profile in doubt]) - 1) / 2
    return [
        SuggestedSlice(
            axis, int(number), _place(affine, middle, axis, number), float(doubt[axis][number])
        )
        for number in chosen
    ]


def choose_axis(affine: NDArray[np.float64]) -> int:
    """Return the axis across which a scan is drawn: along its largest spacing, else sagittal."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    largest = int(spacing.argmax())
    if spacing[largest] > ANISOTROPIC * np.delete(spacing, largest).max():
        return largest
    return int(np.abs(affine[0, :3] / spacing).argmax())


def _place(
    affine: NDArray[np.float64], middle: NDArray[np.float64], axis: int, index: int
) -> tuple[float, float, float]:
    voxel = middle.copy()
    voxel[axis] = index
    x, y, z = (float(round(value, 2)) for value in affine[:3, :3] @ voxel + affine[:3, 3])
    return x, y, z
