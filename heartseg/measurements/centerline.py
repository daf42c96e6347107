"""The line through the middle of a vessel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

NUM_NODES = 30_000
"""About how many places within a vessel the line is sought among."""
CORNER = 1.5
"""Radii that a path takes from a corner of the vessel's end to its middle."""
SMOOTHING = 0.7
"""Radii over which the path is smoothed."""
CENTERING = 2.0
"""Power of the distance to the wall that a step is divided by: the higher, the more central."""


@dataclass(frozen=True)
class Centerline:
    """A line through a vessel, at even steps.

    Attributes:
        points_mm: ``(N, 3)`` places.
        tangents: ``(N, 3)`` directions of length 1.
        radius_mm: About the radius of the vessel: the median distance from the line to its wall.
    """

    points_mm: NDArray[np.float64]
    tangents: NDArray[np.float64]
    radius_mm: float


def find_centerlines(
    field: NDArray[np.float32], affine: NDArray[np.float64], *, least_part: float = 0.2
) -> list[Centerline]:
    """Find the longest line through each part of a vessel.

    Args:
        field: ``(X, Y, Z)`` samples, positive inside the vessel.
        affine: ``(4, 4)`` from the indices of the samples to millimetres.
        least_part: Parts with less of the largest one's volume are left out.

    Returns:
        One line per connected part, the largest part first.

    References:
        Sato et al. (2000). TEASAR: tree-structure extraction algorithm for accurate and robust
        skeletons. Pacific Graphics. https://doi.org/10.1109/PCCGA.2000.883951
    """
    inside, grid, step_mm = _sample_evenly(field, affine)
    parts, _ = ndimage.label(inside, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    lines = []
    for part in order[sizes[order] >= least_part * sizes.max(initial=0)]:
        places, radii_mm = _find_path(parts == part + 1, step_mm)
        points = places @ grid[:3, :3].T + grid[:3, 3]
        if len(points) > 1:
            lines.append(_smooth(points, radii_mm, step_mm))
    return lines


def _sample_evenly(
    field: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64], float]:
    """Return what is inside on a grid along the axes of the patient, its affine and its step."""
    volume_mm3 = float((field > 0).sum()) * abs(float(np.linalg.det(affine[:3, :3])))
    step_mm = (volume_mm3 / NUM_NODES) ** (1 / 3)
    corners = np.array(np.meshgrid(*((0, side - 1) for side in field.shape))).reshape(3, 8)
    world = affine[:3, :3] @ corners + affine[:3, 3:]
    low, high = world.min(axis=1), world.max(axis=1)
    grid = np.diag([step_mm, step_mm, step_mm, 1.0])
    grid[:3, 3] = low
    to_index = np.linalg.inv(affine) @ grid
    shape = np.ceil((high - low) / step_mm).astype(int) + 1
    sampled = ndimage.affine_transform(
        field, to_index[:3, :3], to_index[:3, 3], tuple(shape), order=1, cval=-1.0
    )
    return sampled > 0, grid, step_mm


def _find_path(
    inside: NDArray[np.bool_], step_mm: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the most central path between the two places that are farthest apart.

    Returns:
        ``(N, 3)`` indices, and ``(N,)`` distances to the wall in mm.
    """
    radii_mm = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=step_mm)[1:-1, 1:-1, 1:-1]
    places = np.argwhere(inside)
    lengths, links = _link(inside, step_mm)
    radii = radii_mm[tuple(places.T)]
    graph = sparse.csr_array((lengths, links), shape=(len(places), len(places)))
    first = int(csgraph.dijkstra(graph, directed=False, indices=0).argmax())
    far = csgraph.dijkstra(graph, directed=False, indices=first)
    last = int(far.argmax())
    costs = lengths / ((radii[links[0]] + radii[links[1]]) / 2) ** CENTERING
    weighted = sparse.csr_array((costs, links), shape=(len(places), len(places)))
    _, before = csgraph.dijkstra(weighted, directed=False, indices=first, return_predecessors=True)
    path = [last]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    return places[path], radii[path]


def _link(
    inside: NDArray[np.bool_], step_mm: float
) -> tuple[NDArray[np.float64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the lengths in mm of the links of neighbours, and the numbers of both ends."""
    numbers = np.full(np.array(inside.shape) + 2, -1)
    center = (slice(1, -1),) * 3
    numbers[center][inside] = np.arange(int(inside.sum()))
    own = numbers[center][inside]
    lengths, starts, ends = [], [], []
    for offset in np.ndindex(3, 3, 3):
        shift = np.array(offset) - 1
        # Each pair once.
        if tuple(shift) <= (0, 0, 0):
            continue
        window = tuple(slice(1 + s, 1 + s + n) for s, n in zip(shift, inside.shape, strict=True))
        other = numbers[window][inside]
        linked = other >= 0
        starts.append(own[linked])
        ends.append(other[linked])
        lengths.append(np.full(int(linked.sum()), step_mm * float(np.linalg.norm(shift))))
    return np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends))


def _smooth(
    points: NDArray[np.float64], radii_mm: NDArray[np.float64], step_mm: float
) -> Centerline:
    """Cut off the ends of a path, smooth it over about its radius, and space its points evenly."""
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    start = _find_begin(along, radii_mm)
    stop = along[-1] - _find_begin(along[-1] - along[::-1], radii_mm[::-1])
    if stop - start < 2 * step_mm:
        start, stop = along[-1] / 2 - step_mm, along[-1] / 2 + step_mm
    even = np.linspace(start, stop, int((stop - start) / step_mm) + 1)
    spaced = np.stack([np.interp(even, along, column) for column in points.T], axis=1)
    radius_mm = float(np.median(radii_mm))
    smooth = _blur(spaced, SMOOTHING * radius_mm / float(even[1] - even[0]))
    tangents = np.gradient(smooth, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    return Centerline(smooth, tangents, radius_mm)


def _find_begin(along: NDArray[np.float64], radii_mm: NDArray[np.float64]) -> float:
    """Return how long a path takes to the middle of the vessel from the corner where it begins."""
    # What lies ahead tells whether the vessel is still getting wider.
    ahead = np.searchsorted(along, 3 * along, side="right") - 1
    widest = np.maximum.accumulate(radii_mm)[ahead]
    begun = np.append(along >= CORNER * widest, True)
    return float(np.append(along, along[-1])[begun.argmax()])


def _blur(points: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Smooth ``(N, 3)`` points along the line; beyond the ends it goes on straight."""
    reach = min(int(np.ceil(4 * sigma)), len(points) - 1)
    before = 2 * points[0] - points[reach:0:-1]
    after = 2 * points[-1] - points[-2 : -reach - 2 : -1]
    extended = np.concatenate([before, points, after])
    blurred = ndimage.gaussian_filter1d(extended, sigma, axis=0, mode="nearest")
    return np.asarray(blurred[reach : reach + len(points)])
