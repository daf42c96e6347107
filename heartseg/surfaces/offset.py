"""The surface that lies outside another one, everywhere as far from it."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.surfaces.isosurface import Mesh, extract_mesh
from heartseg.surfaces.proximity import SurfaceIndex

STEP = 0.4
"""Step of the grid on which the surface is found, as a part of the distance: over the sharpest
ridges of a heart the triangles then cut off less than 0.05 mm of a wall of 0.8 mm."""
LARGEST_STEP_MM = 0.5
"""What that step is at most, so that a thick wall is as even."""
MAX_SAMPLES = 6e7
"""Most samples of that grid; a larger one takes coarser steps."""


def finest_step_mm(distance_mm: float) -> float:
    """Return the step of the grid that a distance needs."""
    return min(STEP * distance_mm, LARGEST_STEP_MM)


def build_offset(
    margin: NDArray[np.float32],
    affine: NDArray[np.float64],
    index: SurfaceIndex,
    distance_mm: float,
    *,
    step_mm: float = 0.0,
) -> Mesh:
    """Build the surface at a distance outside another one.

    Gaps that it would enclose are filled.

    Args:
        margin: ``(X, Y, Z)`` field, positive inside the first surface.
        affine: ``(4, 4)`` from the indices of the field to millimetres.
        index: Finds the nearest place of the first surface.
        distance_mm: The distance.
        step_mm: Size of the triangles, unless the distance asks for larger ones.
    """
    step_mm = max(step_mm, finest_step_mm(distance_mm))
    field, grid = _measure_around(margin, affine, index, distance_mm, step_mm)
    # A gap that is closed on all sides would keep its liquid or powder in a print.
    gaps, _ = ndimage.label(field <= 0)
    field[(gaps != gaps[0, 0, 0]) & (field <= 0)] = 1
    return extract_mesh(field, grid)


def _measure_around(
    margin: NDArray[np.float32],
    affine: NDArray[np.float64],
    index: SurfaceIndex,
    distance_mm: float,
    step_mm: float,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return a field that is 0 at the distance and 1 inside, and its affine."""
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    box_mm = np.array(margin.shape) * spacing_mm + 4 * distance_mm
    step_mm = max(step_mm, float((box_mm.prod() / MAX_SAMPLES) ** (1 / 3)))
    steps = step_mm / spacing_mm
    around = math.ceil(distance_mm / step_mm) + 2
    shape = np.ceil((np.array(margin.shape) - 1) / steps).astype(int) + 1 + 2 * around
    sampled = ndimage.affine_transform(
        margin, steps, -around * steps, tuple(shape), order=1, mode="constant", cval=-1
    )
    inside = sampled > 0
    grid = affine @ np.diag([*steps, 1.0])
    grid[:3, 3] -= grid[:3, :3] @ np.full(3, around)
    field = np.where(inside, np.float32(1), np.float32(-1))
    band = np.argwhere(ndimage.maximum_filter(inside, 2 * around - 1) & ~inside)
    points = band @ grid[:3, :3].T + grid[:3, 3]
    low, high = index.bounds_mm(points)
    # Only beside the surface that is sought it matters how far a sample is.
    distances = high
    beside = (low < distance_mm + step_mm) & (high > distance_mm - step_mm)
    distances[beside] = index.distances_mm(points[beside])
    field[tuple(band.T)] = np.maximum(1 - distances / distance_mm, -1)
    return field, grid
