"""How far places are from a surface of triangles."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from heartseg.surfaces.isosurface import Mesh

CANDIDATES = 8
"""Triangles that are looked at: those with the nearest centres."""
CHUNK = 100_000
"""Places at a time, so that memory stays small."""


class SurfaceIndex:
    """Finds the nearest place of a surface whose triangles are of similar size.

    Args:
        mesh: The surface, with at least one triangle, none of them without area.

    References:
        Eberly (1999). Distance Between Point and Triangle in 3D.
        https://www.geometrictools.com/Documentation/DistancePoint3Triangle3.pdf
    """

    def __init__(self, mesh: Mesh) -> None:
        self._corner, second, third = np.moveaxis(mesh.vertices_mm[mesh.triangles], 1, 0)
        self._along = np.stack([second - self._corner, third - self._corner], axis=1)
        first, last = np.moveaxis(self._along, 1, 0)
        # Squares of the two edges at the corner, and their product.
        self._squares = np.stack(
            [(first * first).sum(axis=1), (last * last).sum(axis=1), (first * last).sum(axis=1)],
            axis=1,
        )
        centers = self._corner + self._along.sum(axis=1) / 3
        self._reach = float(np.linalg.norm(centers - self._corner, axis=1).max())
        self._tree = cKDTree(centers)
        self._candidates = min(CANDIDATES, len(centers))

    def nearest(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ``(N, 3)`` places of the surface that are nearest to ``(N, 3)`` points."""
        found = np.empty_like(points_mm)
        for start in range(0, len(points_mm), CHUNK):
            points = points_mm[start : start + CHUNK]
            _, triangles = self._tree.query(points, k=self._candidates)
            triangles = triangles.reshape(len(points), -1)
            parts = self._closest_parts(points, triangles)
            # The vector from each point to the nearest place of each triangle.
            ways = (
                self._corner[triangles]
                - points[:, np.newaxis]
                + np.einsum("nkp,nkpc->nkc", parts, self._along[triangles])
            )
            best = (ways * ways).sum(axis=2).argmin(axis=1)
            found[start : start + CHUNK] = points + ways[np.arange(len(points)), best]
        return found

    def distances_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ``(N,)`` distances of ``(N, 3)`` points from the surface."""
        distances: NDArray[np.float64] = np.linalg.norm(self.nearest(points_mm) - points_mm, axis=1)
        return distances

    def bounds_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(2, N)`` lower and upper bounds of the distances: quickly, and not tight."""
        upper, _ = self._tree.query(points_mm)
        return np.stack([np.maximum(upper - self._reach, 0), upper])

    def _closest_parts(
        self, points: NDArray[np.float64], triangles: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Find the nearest place of each of ``(N, K)`` triangles to one of ``(N, 3)`` points.

        Returns:
            ``(N, K, 2)``: how far to go from the corner along each of its two edges, 0 to 1.
        """
        toward = self._corner[triangles] - points[:, np.newaxis]
        d, e = np.moveaxis(np.einsum("nkpc,nkc->nkp", self._along[triangles], toward), 2, 0)
        a, c, b = np.moveaxis(self._squares[triangles], 2, 0)
        area = a * c - b * b
        s, t = (b * e - c * d) / area, (b * d - a * e) / area
        on_first, on_last = np.clip(-d / a, 0, 1), np.clip(-e / c, 0, 1)
        # Along the third edge, from the second corner to the third one.
        on_third = np.clip((a - b + d - e) / (a + c - 2 * b), 0, 1)
        zero = np.zeros_like(s)
        places = np.stack(
            [
                np.stack([s, t], axis=2),
                np.stack([on_first, zero], axis=2),
                np.stack([zero, on_last], axis=2),
                np.stack([1 - on_third, on_third], axis=2),
            ]
        )
        u, v = places[..., 0], places[..., 1]
        squares = a * u * u + 2 * b * u * v + c * v * v + 2 * d * u + 2 * e * v
        # What lies outside the triangle is no place of it.
        squares[0][(s < 0) | (t < 0) | (s + t > 1)] = np.inf
        best = squares.argmin(axis=0)
        return np.asarray(np.take_along_axis(places, best[np.newaxis, ..., np.newaxis], 0)[0])
