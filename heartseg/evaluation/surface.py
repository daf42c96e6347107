"""Distances between the surfaces of two masks, in mm, weighted by surface area.

The surface of a mask runs between voxel centres: wherever the eight voxels around a voxel corner
are neither all inside nor all outside, a piece of surface (a *surfel*) passes. It sits at the
corner, and its area is that of the marching-cubes triangles there, so that a distance counts
as much as the surface that has it, whatever the spacing. This is the definition of the published
normalised surface Dice; the values agree with its reference implementation.

References:
    Nikolov et al. (2021). J Med Internet Res 23(7):e26151. https://doi.org/10.2196/26151
    Lorensen and Cline (1987). Computer Graphics 21(4). https://doi.org/10.1145/37402.37422
"""

import itertools
from dataclasses import dataclass
from functools import cache

import edt
import numpy as np
from numpy.typing import ArrayLike, NDArray

TIE_TOLERANCE = 1e-6
"""Distances are single precision: one that equals the tolerance must not depend on rounding."""

_CORNERS = tuple(itertools.product((0, 1), repeat=3))
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

    prediction_mm: NDArray[np.float32]
    prediction_mm2: NDArray[np.float64]
    reference_mm: NDArray[np.float32]
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
        """Return the share of both surfaces that lies within a tolerance of the other one."""
        limit = tolerance_mm * (1 + TIE_TOLERANCE)
        close = (
            self.prediction_mm2[self.prediction_mm <= limit].sum()
            + self.reference_mm2[self.reference_mm <= limit].sum()
        )
        return float(close / (self.prediction_mm2.sum() + self.reference_mm2.sum()))


def surface_distances(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], *, spacing_mm: ArrayLike
) -> SurfaceDistances:
    """Measure the distances between the surfaces of two masks.

    Callers crop both masks to the box that holds them: the cost grows with the box. What lies
    outside the arrays counts as outside the masks.

    Args:
        prediction: ``(X, Y, Z)`` mask that is not empty.
        reference: ``(X, Y, Z)`` mask that is not empty.
        spacing_mm: Distance of neighbouring voxels along each axis.

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
    areas = surfel_areas(steps)
    codes = [corner_codes(mask) for mask in (prediction, reference)]
    surfaces = [(code != 0) & (code != _ALL_INSIDE) for code in codes]
    if not all(surface.any() for surface in surfaces):
        raise ValueError("expected masks that are not empty")
    to_prediction, to_reference = (
        edt.edt(~surface, anisotropy=steps, black_border=False, parallel=1) for surface in surfaces
    )
    on_prediction, on_reference = surfaces
    return SurfaceDistances(
        prediction_mm=to_reference[on_prediction],
        prediction_mm2=areas[codes[0][on_prediction]],
        reference_mm=to_prediction[on_reference],
        reference_mm2=areas[codes[1][on_reference]],
    )


def corner_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Describe the eight voxels around each voxel corner by one bit each.

    Args:
        mask: ``(X, Y, Z)`` mask.

    Returns:
        ``(X + 1, Y + 1, Z + 1)`` codes: 0 far outside, 255 far inside, all else is surface.
    """
    padded = np.pad(mask.astype(np.uint8, copy=False), 1)
    codes = np.zeros(tuple(size + 1 for size in mask.shape), np.uint8)
    for bit, offset in enumerate(_CORNERS):
        window = tuple(
            slice(start, start + size) for start, size in zip(offset, codes.shape, strict=True)
        )
        codes |= padded[window] << np.uint8(bit)
    return codes


@cache
def surfel_areas(spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the ``(256,)`` surface areas in mm2 that belong to the corner codes."""
    x, y, z = spacing_mm
    scale = np.array([y * z, x * z, x * y])
    areas = np.array([np.linalg.norm(_normals(code) * scale, axis=1).sum() for code in range(256)])
    areas.flags.writeable = False
    return areas


@cache
def _normals(code: int) -> NDArray[np.float64]:
    """Return the ``(T, 3)`` normals of a cell's triangles; their lengths are areas at spacing 1.

    A cell and its complement have the same surface; the cell with fewer corners inside decides,
    and where a face is ambiguous its inside corners are separated.
    """
    inside = frozenset(corner for bit, corner in enumerate(_CORNERS) if code >> bit & 1)
    if len(inside) > 4:
        inside = frozenset(_CORNERS) - inside
    normals = []
    for polygon in _polygons(inside):
        start, *others = (np.add(*edge) / 2 for edge in polygon)
        for second, third in itertools.pairwise(others):
            normals.append(np.cross(second - start, third - start) / 2)
    return np.array(normals).reshape(-1, 3)


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
    distances: NDArray[np.float32], areas: NDArray[np.float64], percent: float
) -> float:
    """Return the smallest distance that at least ``percent`` % of the area does not exceed."""
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order])
    share /= share[-1]
    index = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(distances[order[index]])
