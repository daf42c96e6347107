"""Hearts as the whole-heart network sees them: turned to its axes, on one grid of voxels."""

from pathlib import Path
from typing import TypeVar

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from heartseg.data.rendering import Scan
from heartseg.data.resampling import nearest_to, resample_to
from heartseg.data.scene import SCENE_GRID, Scene, paint_scene
from heartseg.data.volume import UNLABELLED, check_same_grid, read_image, read_label_map
from heartseg.errors import DataError
from heartseg.labels import LabelTable

TRAINED_AXES = ("P", "I", "R")
"""Directions in which the axes of the network's volumes run, as in the training data."""
_Voxel = TypeVar("_Voxel", bound=np.generic)


def to_trained_axes(voxels: NDArray[_Voxel], affine: NDArray[np.float64]) -> NDArray[_Voxel]:
    """Return a view of a volume whose axes run toward posterior, inferior and right."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(TRAINED_AXES))
    turned: NDArray[_Voxel] = apply_orientation(voxels, turn)
    return turned


def from_trained_axes(voxels: NDArray[_Voxel], affine: NDArray[np.float64]) -> NDArray[_Voxel]:
    """Undo ``to_trained_axes`` for the scan with this affine."""
    turn = ornt_transform(axcodes2ornt(TRAINED_AXES), io_orientation(affine))
    turned: NDArray[_Voxel] = apply_orientation(voxels, turn)
    return np.ascontiguousarray(turned)


def read_scene(label_file: Path, table: LabelTable, *, seed: tuple[int, ...]) -> Scene | None:
    """Read a label map and draw a chest around its heart; None where it is drawn in part.

    Args:
        label_file: The label map.
        table: The labels that may occur.
        seed: Decides what the chest looks like.

    Raises:
        DataError: If the file is unreadable or holds no structure.
    """
    volume = read_label_map(label_file, table, partial=True)
    if (volume.voxels == UNLABELLED).any():
        return None
    if not volume.voxels.any():
        raise DataError(f"{label_file}: holds no structure, so there is no heart to draw")
    labels = to_trained_axes(volume.voxels, volume.affine)
    axes = io_orientation(volume.affine)[:, 0].astype(int)
    order = [int(np.flatnonzero(axes == world)[0]) for world in _WORLD_OF_TRAINED]
    step = volume.spacing_mm[order]
    rng = np.random.default_rng(seed)
    return paint_scene(labels, (float(step[0]), float(step[1]), float(step[2])), rng)


# Posterior, inferior and right lie along the world's second, third and first axis.
_WORLD_OF_TRAINED = (1, 2, 0)


def read_scan(image_file: Path, label_file: Path, table: LabelTable) -> Scan:
    """Read a scan with its labels, all of them or (``UNLABELLED`` elsewhere) those of some slices.

    Raises:
        DataError: If a file is unreadable, or the two do not lie on one grid.
    """
    image, labels = read_image(image_file), read_label_map(label_file, table, partial=True)
    check_same_grid(image, labels, names=(str(image_file), str(label_file)))
    return Scan(
        resample_to(to_trained_axes(image.voxels, image.affine), SCENE_GRID),
        nearest_to(to_trained_axes(labels.voxels, labels.affine), SCENE_GRID),
    )
