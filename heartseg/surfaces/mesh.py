"""The surface of a single mask, for pictures; those of a label map are in ``label_surfaces``."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartseg.surfaces.isosurface import Mesh
from heartseg.surfaces.label_surfaces import fit_labels

__all__ = ["Mesh", "build_mesh", "coarsen"]


def build_mesh(mask: NDArray[np.bool_], *, spacing_mm: ArrayLike) -> Mesh:
    """Extract the smooth surface of a mask; it encloses the volume of the voxels.

    Args:
        mask: ``(X, Y, Z)`` mask; what lies outside the array is outside the mask.
        spacing_mm: Distance of neighbouring voxels along each axis.

    Returns:
        The surface along the array axes, from the centre of voxel (0, 0, 0); without triangles if
        the mask is empty.
    """
    if not mask.any():
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    inside = frozenset({1})
    affine = np.diag([*np.ravel(spacing_mm), 1.0])
    _, fit = fit_labels(mask.astype(np.uint8), affine, [inside])
    return fit.meshes[inside]


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
