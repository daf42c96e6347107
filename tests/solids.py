"""Label maps of simple solids, and what trimesh and manifold3d say of a surface."""

import manifold3d
import numpy as np
import trimesh
from scipy.spatial import cKDTree

SPACING_MM = (0.8, 1.0, 1.5)


def ball(shape, center_mm, radius_mm, spacing_mm=SPACING_MM):
    """Return the voxels whose centres lie in a ball, measured from the first voxel."""
    grid = np.moveaxis(np.indices(shape), 0, -1) * spacing_mm
    return np.linalg.norm(grid - center_mm, axis=-1) <= radius_mm


def as_trimesh(mesh):
    return trimesh.Trimesh(mesh.vertices_mm, mesh.triangles, process=False)


def as_manifold(mesh):
    triangles = np.array(mesh.triangles, np.uint64)
    return manifold3d.Manifold(manifold3d.Mesh64(np.array(mesh.vertices_mm), triangles))


def border_points(mask, affine, per_side=3):
    """Return places all over the faces between the voxels of a mask and others, in mm."""
    padded = np.pad(mask, 1)
    shifts = (np.arange(per_side) + 0.5) / per_side - 0.5
    points = []
    for axis in range(3):
        faces = np.argwhere(np.diff(padded.astype(np.int8), axis=axis)).astype(float) - 1
        faces[:, axis] += 0.5
        for first in shifts:
            for second in shifts:
                shift = np.zeros(3)
                shift[[i for i in range(3) if i != axis]] = first, second
                points.append((faces + shift) @ affine[:3, :3].T + affine[:3, 3])
    return np.concatenate(points)


def mean_distances_mm(mesh, mask, affine):
    """Return mean distances from the border of a mask to a surface, and from it to the border."""
    border = border_points(mask, affine)
    surface, _ = trimesh.sample.sample_surface(as_trimesh(mesh), len(border), seed=0)
    return cKDTree(surface).query(border)[0].mean(), cKDTree(border).query(surface)[0].mean()
