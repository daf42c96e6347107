"""Surfaces of structures, small enough for a page."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.labels import LabelTable
from heartseg.pages.scan_page import Surface
from heartseg.pictures.framing import HeartBox, frame_box, see_labels
from heartseg.surfaces.mesh import build_mesh

MAX_TRIANGLES = 45_000
"""Of all structures together: turning them stays fluent without a graphics card."""
# Of marching cubes per face between voxels of different labels, measured on real hearts.
_TRIANGLES_PER_FACE = 2.0


def build_surfaces(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], table: LabelTable, box: HeartBox
) -> list[Surface]:
    """Build the surface of each structure that a label map holds, coarse enough for a page.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.
        box: What of the patient is shown.

    Returns:
        One surface per structure that is there, all with about ``MAX_TRIANGLES`` at most.
    """
    finest_mm = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    step_mm = finest_mm
    # Twice: the first step is guessed from the finest grid, whose borders are the roughest.
    for _ in range(2):
        frame = frame_box(box, step_mm=step_mm)
        seen = see_labels(labels, affine, frame)
        triangles = _TRIANGLES_PER_FACE * _count_faces(seen)
        if triangles <= MAX_TRIANGLES:
            break
        step_mm *= (triangles / MAX_TRIANGLES) ** 0.5
    else:
        frame = frame_box(box, step_mm=step_mm)
        seen = see_labels(labels, affine, frame)
    return list(_surfaces(seen, frame.affine, table, step_mm))


def _surfaces(
    seen: NDArray[np.uint8], affine: NDArray[np.float64], table: LabelTable, step_mm: float
) -> Iterator[Surface]:
    boxes = ndimage.find_objects(seen, max_label=table.num_classes - 1)
    for value, where in enumerate(boxes, start=1):
        if where is None:
            continue
        mesh = build_mesh(seen[where] == value, spacing_mm=(step_mm,) * 3)
        start = np.array([part.start for part in where])
        index = mesh.vertices_mm / step_mm + start
        vertices_mm = index @ affine[:3, :3].T + affine[:3, 3]
        # Slices, rows, columns run superior, anterior, right: mirrored, so triangles turn around.
        yield Surface(value, vertices_mm.astype(np.float32), mesh.triangles[:, ::-1])


def _count_faces(labels: NDArray[np.uint8]) -> int:
    """Count the faces between voxels of different labels, once for each structure they bound."""
    faces = 0
    padded = np.pad(labels, 1)
    for axis in range(3):
        low = np.delete(padded, -1, axis=axis)
        high = np.delete(padded, 0, axis=axis)
        different = low != high
        faces += int(np.count_nonzero(different & (low > 0)))
        faces += int(np.count_nonzero(different & (high > 0)))
    return faces
