"""The surface that lies outside another one, everywhere as far from it."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.surfaces.isosurface import Mesh, extract_mesh
from heartseg.surfaces.proximity import SurfaceIndex

STEP = 0.6
"""Step of the grid on which the surface is found, as a part of the distance."""
MAX_SAMPLES = 4e7
"""Most samples of that grid; a larger one takes coarser steps."""
ROUNDS = 2
"""How often edges are halved; where two fronts meet at a sharp angle some would always remain."""
TOLERANCE_MM = 0.03
"""By how much the middle of an edge may miss the distance."""
MOVES = 4
"""How often a point is moved at most."""
SETTLED_MM = 0.005
"""A point that missed the distance by less is there once it has been moved."""


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
    step_mm = max(step_mm, STEP * distance_mm)
    field, grid = _measure_around(margin, affine, index, distance_mm, step_mm)
    # A gap that is closed on all sides would keep its liquid or powder in a print.
    gaps, _ = ndimage.label(field <= 0)
    field[(gaps != gaps[0, 0, 0]) & (field <= 0)] = 1
    mesh = extract_mesh(field, grid)
    return _refine(mesh, index, distance_mm, TOLERANCE_MM)


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


def _move(
    points_mm: NDArray[np.float64], index: SurfaceIndex, distance_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Move points to the distance, away from or towards the nearest place of the surface.

    Returns:
        The points, and the directions of length 1 in which they lie.
    """
    moved, directions = points_mm.copy(), np.empty_like(points_mm)
    rest = np.arange(len(points_mm))
    # Where two fronts meet the nearest place changes on the way.
    for _ in range(MOVES):
        nearest = index.nearest(moved[rest])
        away = moved[rest] - nearest
        lengths = np.linalg.norm(away, axis=1, keepdims=True)
        directions[rest] = away / lengths
        moved[rest] = nearest + directions[rest] * distance_mm
        rest = rest[np.abs(lengths[:, 0] - distance_mm) > SETTLED_MM]
    return moved, directions


def _refine(mesh: Mesh, index: SurfaceIndex, distance_mm: float, tolerance_mm: float) -> Mesh:
    """Move the surface to the distance, and halve the edges whose middles miss it."""
    vertices, directions = _move(mesh.vertices_mm, index, distance_mm)
    triangles = mesh.triangles.astype(np.int64)
    first_fresh = 0
    for _ in range(ROUNDS):
        sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2)
        codes, positions = np.unique(
            sides[..., 0] * len(vertices) + sides[..., 1], return_inverse=True
        )
        ends = np.stack(np.divmod(codes, len(vertices)), axis=1)
        # An edge between old vertices has been looked at.
        edges = np.flatnonzero(ends[:, 1] >= first_fresh)
        edges = edges[_may_miss(vertices, directions, ends[edges], tolerance_mm)]
        middles = vertices[ends[edges]].mean(axis=1)
        wrong = np.abs(index.distances_mm(middles) - distance_mm) > tolerance_mm
        if not wrong.any():
            break
        middle_of = np.full(len(codes), -1)
        middle_of[edges[wrong]] = len(vertices) + np.arange(int(wrong.sum()))
        first_fresh = len(vertices)
        moved, ways = _move(middles[wrong], index, distance_mm)
        vertices, directions = np.concatenate([vertices, moved]), np.concatenate([directions, ways])
        triangles = _split(triangles, middle_of[positions.reshape(-1, 3)])
    return Mesh(vertices, triangles.astype(np.int32))


def _may_miss(
    vertices: NDArray[np.float64],
    directions: NDArray[np.float64],
    ends: NDArray[np.int64],
    tolerance_mm: float,
) -> NDArray[np.bool_]:
    """Tell which edges are so curved that their middles may miss the distance.

    An arc of a circle is away from its chord by an eighth of its length times its angle.
    """
    first, last = np.moveaxis(ends, 1, 0)
    lengths = np.linalg.norm(vertices[first] - vertices[last], axis=1)
    angles = np.linalg.norm(directions[first] - directions[last], axis=1)
    return np.asarray(lengths * angles / 8 > tolerance_mm / 2)


def _split(triangles: NDArray[np.int64], middles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split triangles at the middles of their edges.

    Args:
        triangles: ``(T, 3)`` indices of vertices.
        middles: ``(T, 3)`` vertex in the middle of each edge, the first from corner 0 to 1; -1
            where there is none.
    """
    halved = (middles >= 0).sum(axis=1)
    # Turned so that one middle comes first, and of two that there is none on the last edge.
    turn = np.where(halved == 1, (middles >= 0).argmax(axis=1), 0)
    turn = np.where(halved == 2, (middles < 0).argmax(axis=1) + 1, turn)
    order = (np.arange(3) + turn[:, np.newaxis]) % 3
    corners = np.take_along_axis(triangles, order, axis=1)
    a, b, c = corners.T
    p, q, r = np.take_along_axis(middles, order, axis=1).T
    patterns = {
        0: [(a, b, c)],
        1: [(a, p, c), (p, b, c)],
        2: [(p, b, q), (a, p, q), (a, q, c)],
        3: [(a, p, r), (p, b, q), (r, q, c), (p, q, r)],
    }
    return np.concatenate(
        [
            np.stack(triple, axis=1)[halved == count]
            for count, triples in patterns.items()
            for triple in triples
        ]
    )
