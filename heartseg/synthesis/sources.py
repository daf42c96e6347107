"""What samples of whole hearts are drawn from: label maps as scenes, and scans, read from files."""

from pathlib import Path

import numpy as np

from heartseg.errors import DataError
from heartseg.labels import LabelTable
from heartseg.scans.axes import to_trained_axes, trained_spacing_mm
from heartseg.scans.nearest import resize_labels
from heartseg.scans.resampling import resample_to
from heartseg.scans.volume import UNLABELLED, Volume, check_same_grid, read_image, read_label_map
from heartseg.synthesis.rendering import Scan
from heartseg.synthesis.scene import SCENE_GRID, Scene, paint_scene


def read_scene(
    label_file: Path,
    table: LabelTable,
    *,
    seed: tuple[int, ...],
    grid: tuple[int, int, int] = SCENE_GRID,
    margin: float = 0.0,
) -> Scene | None:
    """Read a label map and draw a chest around its heart; None where it is drawn in part.

    Args:
        label_file: The label map.
        table: The labels that may occur.
        seed: Decides what the chest looks like.
        grid: As in ``paint_scene``.
        margin: As in ``paint_scene``.

    Raises:
        DataError: If the file is unreadable or holds no structure, or the table has a structure
            that scenes do not know.
    """
    volume = read_label_map(label_file, table, partial=True, from_source=True)
    if (volume.voxels == UNLABELLED).any():
        return None
    if not volume.voxels.any():
        raise DataError(f"{label_file}: holds no structure, so there is no heart to draw")
    labels = to_trained_axes(volume.voxels, volume.affine)
    rng = np.random.default_rng(seed)
    spacing_mm = trained_spacing_mm(volume.affine)
    return paint_scene(labels, spacing_mm, rng, grid=grid, margin=margin, table=table)


def read_scan(image_file: Path, label_file: Path, table: LabelTable) -> Scan:
    """Read a scan with its labels, all of them or (``UNLABELLED`` elsewhere) those of some slices.

    Raises:
        DataError: If a file is unreadable, or the two do not lie on one grid.
    """
    image = read_image(image_file)
    labels = read_label_map(label_file, table, partial=True, from_source=True)
    check_same_grid(image, labels, names=(str(image_file), str(label_file)))
    return lay_scan(image, labels)


def lay_scan(image: Volume, labels: Volume) -> Scan:
    """Bring a scan and its labels, both on one grid, onto the grid of scenes."""
    return Scan(
        resample_to(to_trained_axes(image.voxels, image.affine), SCENE_GRID),
        resize_labels(to_trained_axes(labels.voxels, labels.affine), SCENE_GRID),
    )
