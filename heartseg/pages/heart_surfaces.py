"""Surfaces of structures, small enough for a page."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.labels import LabelTable
from heartseg.pages.scan_page import Surface
from heartseg.surfaces.label_surfaces import (
    COARSER,
    describe_scatter,
    estimate_area_mm2,
    fit_heart,
)

MAX_TRIANGLES = 45_000
"""Of all structures together: turning them stays fluent without a graphics card."""
_TRIANGLES_PER_STEP = 3.0
"""About how many triangles a surface has per square of the step, measured on real hearts."""


def coarse_surfaces(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], table: LabelTable
) -> list[Surface]:
    """Build the surface of each structure that a label map holds, coarse enough for a page.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.

    Returns:
        One surface per structure that is there, all with ``MAX_TRIANGLES`` at most; none of labels
        that are scattered as in noise.
    """
    if describe_scatter(labels) is not None:
        return []
    step_mm = _choose_step_mm(labels, affine)
    while True:
        heart = fit_heart(labels, affine, table, step_mm=step_mm)
        if heart is None:
            return []
        count = sum(len(mesh.triangles) for mesh in heart.meshes.values())
        if count <= MAX_TRIANGLES:
            break
        step_mm *= max(math.sqrt(count / MAX_TRIANGLES), COARSER)
    return [
        Surface(heart.values[key], mesh.vertices_mm.astype(np.float32), mesh.triangles)
        for key, mesh in heart.meshes.items()
    ]


def _choose_step_mm(labels: NDArray[np.uint8], affine: NDArray[np.float64]) -> float:
    """Return the finest step of a grid that gives about as many triangles as are allowed."""
    area_mm2 = 0.0
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            area_mm2 += estimate_area_mm2(np.pad(labels[box] == value, 1), affine)
    finest_mm = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    return max(finest_mm, math.sqrt(_TRIANGLES_PER_STEP * area_mm2 / MAX_TRIANGLES))
