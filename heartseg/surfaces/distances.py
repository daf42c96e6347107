"""Distances between the surfaces of two masks, in mm, weighted by surface area.

The surface of a mask runs between voxel centres: wherever the eight voxels around a voxel corner
are neither all inside nor all outside, there is an element of the surface (a *surfel*). Its
position is the corner and its area is that of the marching-cubes triangles there, so that each
distance has the weight of its area, whatever the spacing. This is the definition of the published
normalised surface Dice; the values agree with its reference implementation.

References:
    Nikolov et al. (2021). J Med Internet Res 23(7):e26151. https://doi.org/10.2196/26151
    Lorensen and Cline (1987). Computer Graphics 21(4). https://doi.org/10.1145/37402.37422
"""

import itertools
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

NUM_BOUNDING = 2000
"""Approximate number of surfels of a surface that are used to bound the distances to it."""
REACH = 4
"""Radius in voxels of the search around each surfel, which precedes a distance transform."""
LOOK_UPS = 4
"""Number of look-ups that cost at most as much as the distance transform of one voxel."""

_CORNERS = tuple((x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1))
"""Corner b of a cell is bit b of its code."""
_ALL_INSIDE = 255


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each surfel of one surface is from the other surface.

    Attributes:
        prediction_mm: ``(P,)`` distances of the prediction's surfels to the reference.
        prediction_mm2: ``(P,)`` areas of the prediction's surfels.
        reference_mm: ``(R,)`` distances of the reference's surfels to the prediction.
        reference_mm2: ``(R,)`` areas of the reference's surfels.
    """

    prediction_mm: NDArray[np.float64]
    prediction_mm2: NDArray[np.float64]
    reference_mm: NDArray[np.float64]
    reference_mm2: NDArray[np.float64]

    def percentile_mm(self, percent: float) -> float:
        """Return the larger of both directions' percentiles: 95 gives HD95, 100 Hausdorff."""
        return max(
            _weighted_percentile(self.prediction_mm, self.prediction_mm2, percent),
            _weighted_percentile(self.reference_mm, self.reference_mm2, percent),
        )

    def average_mm(self) -> float:
        """Return the average symmetric surface distance (ASSD) over the area of both surfaces."""
        weighted = self.prediction_mm @ self.prediction_mm2 + self.reference_mm @ self.reference_mm2
        return float(weighted / (self.prediction_mm2.sum() + self.reference_mm2.sum()))

    def dice_at(self, tolerance_mm: float) -> float:
        """Return the fraction of both surfaces that lies within a tolerance of the other one."""
        close = (
            self.prediction_mm2[self.prediction_mm <= tolerance_mm].sum()
            + self.reference_mm2[self.reference_mm <= tolerance_mm].sum()
        )
        return float(close / (self.prediction_mm2.sum() + self.reference_mm2.sum()))


def surface_distances(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    *,
    spacing_mm: ArrayLike,
    axes_mm: NDArray[np.float64] | None = None,
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks.

    The cost grows with the arrays, so callers crop both masks to the box that holds them. Outside
    the arrays both masks are empty.

    Args:
        prediction: ``(X, Y, Z)`` mask that is not empty, in any memory order.
        reference: ``(X, Y, Z)`` mask that is not empty.
        spacing_mm: Distance between neighbouring voxels along each axis.
        axes_mm: ``(3, 3)``, column i the step along axis i, for grids whose axes are not
            perpendicular (a tilted gantry); the spacing is then not used.

    Returns:
        Distances and areas of the surfels of both surfaces.

    Raises:
        ValueError: If the shapes differ or a mask is empty.
    """
    if prediction.shape != reference.shape or prediction.ndim != 3:
        raise ValueError(
            f"expected 3D masks of one shape, got {prediction.shape} and {reference.shape}"
        )
    steps = tuple(float(step) for step in np.ravel(spacing_mm))
    areas = surfel_areas(steps) if axes_mm is None else _sheared_areas(axes_mm)
    codes = [corner_codes(mask) for mask in (prediction, reference)]
    surfaces = [(code != 0) & (code != _ALL_INSIDE) for code in codes]
    if not all(surface.any() for surface in surfaces):
        raise ValueError("expected masks that are not empty")
    on_prediction, on_reference = surfaces
    measure = partial(_distances, spacing_mm=steps)
    if axes_mm is not None:
        measure = partial(_sheared_distances, axes_mm=axes_mm)
    return SurfaceDistances(
        prediction_mm=measure(on_prediction, on_reference),
        prediction_mm2=areas[codes[0][on_prediction]],
        reference_mm=measure(on_reference, on_prediction),
        reference_mm2=areas[codes[1][on_reference]],
    )


def _distances(
    surface: NDArray[np.bool_], other: NDArray[np.bool_], spacing_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the ``(N,)`` distances in mm from the surfels of a surface to another one.

    Most surfels of a useful prediction have the reference within a few voxels. A search around
    them, nearest offsets first, costs a fraction of a distance transform. The transform measures
    those that the search does not find within its budget.
    """
    padded = np.pad(other, REACH)
    # Places are counted in C order, whatever the order in memory: NIfTI arrays have another one.
    looked_up = padded.ravel()
    strides = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)
    places = np.flatnonzero(np.pad(surface, REACH))
    distances = np.full(len(places), np.nan)
    open_ = np.arange(len(places))
    budget = LOOK_UPS * surface.size
    for offset, distance in _neighbours(spacing_mm):
        if not open_.size or budget < open_.size:
            break
        budget -= open_.size
        found = looked_up[places + np.dot(offset, strides)]
        distances[open_[found]] = distance
        open_, places = open_[~found], places[~found]
    if open_.size:
        distances[open_] = _far_distances(np.argwhere(surface)[open_], other, spacing_mm)
    return distances


def _far_distances(
    points: NDArray[np.int64], other: NDArray[np.bool_], spacing_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the ``(N,)`` distances in mm from ``(N, 3)`` points to a surface, however far.

    A sample of the surface bounds every distance, so that the distance transform covers only the
    box that must hold the nearest surfels.
    """
    spacing = np.array(spacing_mm)
    places = np.argwhere(other)
    sample = places[:: 1 + len(places) // NUM_BOUNDING]
    bounds, _ = cKDTree(sample * spacing).query(points * spacing)
    margin = np.divide.outer(bounds, spacing)
    low = np.maximum(np.floor((points - margin).min(axis=0)).astype(int), 0)
    high = np.ceil((points + margin).max(axis=0)).astype(int) + 1
    box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
    # Indices instead of distances: these are exact in double precision, with a third of the memory.
    nearest = ndimage.distance_transform_edt(
        ~other[box], sampling=spacing_mm, return_distances=False, return_indices=True
    )
    points = points - low
    steps = (nearest[(slice(None), *points.T)].T - points) * spacing
    distances: NDArray[np.float64] = np.sqrt((steps * steps).sum(axis=1))
    return distances


def _sheared_distances(
    surface: NDArray[np.bool_], other: NDArray[np.bool_], axes_mm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the ``(N,)`` distances in mm as ``_distances`` does, along any axes."""
    tree = cKDTree(np.argwhere(other) @ axes_mm.T)
    distances, _ = tree.query(np.argwhere(surface) @ axes_mm.T)
    return np.asarray(distances, np.float64)


def _sheared_areas(axes_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(256,)`` surface areas in mm2 that belong to the corner codes, any axes."""
    # The cross product of two transformed vectors is that of the vectors times the cofactors.
    cofactors = np.linalg.det(axes_mm) * np.linalg.inv(axes_mm).T
    return np.array(
        [np.linalg.norm(_normals(code) @ cofactors.T, axis=1).sum() for code in range(256)]
    )


@cache
def _neighbours(spacing_mm: tuple[float, ...]) -> tuple[tuple[tuple[int, ...], float], ...]:
    """Return every offset of a ball with its length in mm, nearest first."""
    side = range(-REACH, REACH + 1)
    lengths = {
        offset: float(np.sqrt((np.multiply(offset, spacing_mm) ** 2).sum()))
        for offset in itertools.product(side, repeat=3)
    }
    # Everything outside the cube of offsets is at least this far away.
    limit = (REACH + 1) * min(spacing_mm)
    ball = [(offset, length) for offset, length in lengths.items() if length < limit]
    return tuple(sorted(ball, key=lambda entry: entry[1]))


def corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Describe the eight voxels around each voxel corner by one bit each.

    Args:
        mask: ``(X, Y, Z)`` mask.

    Returns:
        ``(X + 1, Y + 1, Z + 1)`` codes: 0 outside, 255 inside, all others on the surface.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    # One axis after the other: 2, then 4, then 8 neighbours in the bits.
    for axis, bits in enumerate((1, 2, 4)):
        lower = codes[(slice(None),) * axis + (slice(None, -1),)]
        upper = codes[(slice(None),) * axis + (slice(1, None),)]
        codes = upper << np.uint8(bits)
        codes |= lower
    return codes


@cache
def surfel_areas(spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the ``(256,)`` surface areas in mm2 that belong to the corner codes."""
    x, y, z = spacing_mm
    scale = np.array([y * z, x * z, x * y])
    areas = np.array([np.linalg.norm(_normals(code) * scale, axis=1).sum() for code in range(256)])
    areas.flags.writeable = False
    return areas


def _normals(code: int) -> NDArray[np.float64]:
    """Return the ``(T, 3)`` normals of a cell's triangles; their lengths are areas at spacing 1."""
    first, second, third = np.moveaxis(cell_triangles(code) / 2, 1, 0)
    normals: NDArray[np.float64] = np.cross(second - first, third - first) / 2
    return normals


@cache
def cell_triangles(code: int) -> NDArray[np.int64]:
    """Return the marching-cubes triangles between eight voxel centres.

    A cell and its complement have the same surface; the cell with fewer corners inside decides,
    and where a face is ambiguous its inside corners are separated.

    Args:
        code: Which of the eight voxels are inside, one bit each.

    Returns:
        ``(T, 3, 3)`` vertices of the triangles, in half voxels from the cell's first corner: 0, 1
        or 2. Seen from outside the mask they run anticlockwise.
    """
    inside = frozenset(corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1)
    is_turned = len(inside) > 4
    if is_turned:
        inside = frozenset(_CORNERS) - inside
    triangles = []
    for polygon in _polygons(inside):
        start, *others = (np.add(*edge) for edge in polygon)
        if is_turned:
            others.reverse()
        triangles += [(start, second, third) for second, third in itertools.pairwise(others)]
    return np.array(triangles, np.int64).reshape(-1, 3, 3)


_Corner = tuple[int, ...]
_Edge = tuple[_Corner, _Corner]


def _polygons(inside: frozenset[_Corner]) -> list[list[_Edge]]:
    """Return the closed polygons that separate inside from outside corners of a cell.

    A vertex is the middle of a cut edge, given as (inside corner, outside corner). Polygons of
    five or six vertices are not flat; they begin at the vertex from which the classic
    marching-cubes table fans its triangles.
    """
    following: dict[_Edge, _Edge] = {}
    for face in _faces():
        cut = [i for i in range(4) if (face[i] in inside) != (face[i - 1] in inside)]
        # Face corners run anticlockwise seen from outside the cell, so walking from where the
        # boundary enters the mask to where it leaves it keeps the mask on one side.
        for i in cut:
            if face[i] in inside:
                last = i
                while face[(last + 1) % 4] in inside:
                    last += 1
                entry = (face[i], face[i - 1])
                leave = (face[last % 4], face[(last + 1) % 4])
                following[entry] = leave
    polygons = []
    while following:
        first = min(following)
        polygon = [first]
        while (edge := following.pop(polygon[-1])) != first:
            polygon.append(edge)
        polygons.append(_begin_at_fan(polygon, inside))
    return polygons


def _begin_at_fan(polygon: list[_Edge], inside: frozenset[_Corner]) -> list[_Edge]:
    def roles(edge: _Edge) -> tuple[int, int]:
        inner, outer = edge
        return _count_adjacent(inner, inside), _count_adjacent(outer, inside)

    start = 0
    if len(polygon) == 5:
        # Three corners in an L: the fan starts beside the elbow's own vertex.
        elbow = next(i for i, edge in enumerate(polygon) if roles(edge)[0] == 2)
        start = elbow + 1
    elif len(polygon) == 6 and (1, 2) in map(roles, polygon):
        # Four corners in a bent chain.
        start = next(i for i, edge in enumerate(polygon) if roles(edge) == (1, 2))
    start %= len(polygon)
    return polygon[start:] + polygon[:start]


def _count_adjacent(corner: _Corner, others: frozenset[_Corner]) -> int:
    return sum(np.abs(np.subtract(corner, other)).sum() == 1 for other in others)


@cache
def _faces() -> tuple[tuple[_Corner, ...], ...]:
    """Return the six faces, corners anticlockwise seen from outside the cell."""
    faces = []
    for axis, side in itertools.product(range(3), (0, 1)):
        cycle = ((0, 0), (1, 0), (1, 1), (0, 1))
        corners = []
        for u, v in cycle if side else reversed(cycle):
            corner = [0, 0, 0]
            corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3] = side, u, v
            corners.append(tuple(corner))
        faces.append(tuple(corners))
    return tuple(faces)


def _weighted_percentile(
    distances: NDArray[np.float64], areas: NDArray[np.float64], percent: float
) -> float:
    """Return the smallest distance that at least ``percent`` % of the area does not exceed."""
    order = np.argsort(distances, kind="stable")
    fraction = np.cumsum(areas[order])
    fraction /= fraction[-1]
    index = min(int(np.searchsorted(fraction, percent / 100)), len(order) - 1)
    return float(distances[order[index]])
