"""Surfaces of masks as triangles, for looking at; the same surface that distances are taken to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from heartseg.surfaces.distances import cell_triangles, corner_codes

SMOOTHING_STEPS = 10
# Taubin: shrink a little, then grow a little more, so that volumes keep their size.
SHRINK, GROW = 0.5, -0.53


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices_mm: ``(V, 3)`` points along the array axes, from the centre of voxel (0, 0, 0).
        triangles: ``(T, 3)`` indices of vertices.
    """

    vertices_mm: NDArray[np.float32]
    triangles: NDArray[np.int32]


def build_mesh(mask: NDArray[np.bool_], *, spacing_mm: ArrayLike) -> Mesh:
    """Extract the surface of a mask.

    Args:
        mask: ``(X, Y, Z)`` mask; what lies outside the array is outside the mask.
        spacing_mm: Distance of neighbouring voxels along each axis.

    Returns:
        The smoothed surface; without triangles if the mask is empty.

    References:
        Taubin (1995). SIGGRAPH. https://doi.org/10.1145/218380.218473
    """
    codes = corner_codes(mask)
    corners = []
    for code in np.unique(codes):
        template = cell_triangles(int(code))
        if len(template):
            cells = np.argwhere(codes == code)
            corners.append((2 * cells[:, np.newaxis, np.newaxis] + template).reshape(-1, 3))
    if not corners:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    points, triangles = np.unique(np.concatenate(corners), axis=0, return_inverse=True)
    # Cell i lies between the centres of voxels i - 1 and i.
    vertices = _smooth((points / 2 - 1) * np.asarray(spacing_mm), triangles.reshape(-1, 3))
    return Mesh(vertices.astype(np.float32), triangles.reshape(-1, 3).astype(np.int32))


def coarsen(mask: NDArray[np.bool_], factors: tuple[int, ...]) -> NDArray[np.bool_]:
    """Reduce a mask: a block of voxels becomes one, inside if at least half of it is."""
    padding = [(0, -size % factor) for size, factor in zip(mask.shape, factors, strict=True)]
    padded = np.pad(mask, padding)
    blocks = [
        entry
        for size, factor in zip(padded.shape, factors, strict=True)
        for entry in (size // factor, factor)
    ]
    inside: NDArray[np.bool_] = padded.reshape(blocks).mean(axis=(1, 3, 5)) >= 0.5
    return inside


def _smooth(vertices: NDArray[np.float64], triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    count = len(vertices)
    links = sparse.coo_array((np.ones(len(edges)), edges.T), shape=(count, count)).tocsr()
    links = links + links.T
    neighbours = np.maximum(links.sum(axis=1), 1)[:, np.newaxis]
    for _ in range(SMOOTHING_STEPS):
        for weight in (SHRINK, GROW):
            vertices = vertices + weight * (links @ vertices / neighbours - vertices)
    return vertices
