"""Closed surfaces of triangles, and how they are taken from a field."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import marching_cubes

LEAST = 0.01
"""No sample of a field is nearer to 0: a vertex on a voxel centre would make triangles without
area, and neighbouring vertices that become one in a file of single precision."""


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices_mm: ``(V, 3)`` points in millimetres.
        triangles: ``(T, 3)`` indices of vertices, anticlockwise seen from outside.
    """

    vertices_mm: NDArray[np.float64]
    triangles: NDArray[np.int32]

    @property
    def volume_mm3(self) -> float:
        """Volume that the surface encloses; 0 without triangles."""
        # From amid the surface, so that no digit is lost far from the origin.
        center = self.vertices_mm.sum(axis=0) / max(len(self.vertices_mm), 1)
        first, second, third = np.moveaxis(self._corners - center, 1, 0)
        return float(np.einsum("ij,ij->", first, np.cross(second, third))) / 6

    @property
    def area_mm2(self) -> float:
        """Area of all triangles."""
        first, second, third = np.moveaxis(self._corners, 1, 0)
        return float(np.linalg.norm(np.cross(second - first, third - first), axis=1).sum()) / 2

    @property
    def _corners(self) -> NDArray[np.float64]:
        corners: NDArray[np.float64] = self.vertices_mm[self.triangles]
        return corners


def extract_mesh(field: NDArray[np.float32], affine: NDArray[np.float64]) -> Mesh:
    """Extract the surface where a field is 0.

    Args:
        field: ``(X, Y, Z)`` samples, positive inside, with steps of about 1 from outside to inside;
            what lies outside the array is outside the surface.
        affine: ``(4, 4)`` from the indices of the samples to millimetres.

    Returns:
        A closed surface that does not cut itself; without triangles if no sample is positive.

    References:
        Lewiner et al. (2003). J Graphics Tools 8(2). https://doi.org/10.1080/10867651.2003.10487582
    """
    if not (field > 0).any():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    closed = np.pad(field, 1, constant_values=-1)
    closed = np.where(closed > 0, np.maximum(closed, LEAST), np.minimum(closed, -LEAST))
    vertices, triangles, _, _ = marching_cubes(closed, 0.0, gradient_direction="ascent")
    linear = affine[:3, :3]
    if np.linalg.det(linear) < 0:
        triangles = triangles[:, ::-1]
    vertices_mm = (vertices.astype(np.float64) - 1) @ linear.T + affine[:3, 3]
    return Mesh(vertices_mm, triangles.astype(np.int32))
