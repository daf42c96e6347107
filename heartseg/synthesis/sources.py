"""What samples of whole hearts are drawn from: label maps as scenes, and scans, read from files."""

from pathlib import Path

import numpy as np

from heartseg.errors import DataError
from heartseg.labels import LabelTable
from heartseg.scans.axes import to_trained_axes, trained_spacing_mm
from heartseg.scans.nearest import resize_labels
from heartseg.scans.resampling import resample_to
from heartseg.scans.volume import UNLABELLED, Volume, check_same_grid, read_image, read_label_map
from heartseg.synthesis.rendering import Scan, cut_box
from heartseg.synthesis.scene import SCENE_GRID, Scene, paint_scene

WIDE_ROOM = 0.5
"""How far a scan is kept beyond the box around its heart for the first stage, in boxes a side."""
CLOSE_ROOM = 0.15
"""The same for the second stage, which is shown the box, moved and enlarged a little."""


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
    return lay_scan(image, labels, num_classes=table.num_classes)


def lay_scan(
    image: Volume,
    labels: Volume,
    *,
    num_classes: int,
    grid: tuple[int, int, int] = SCENE_GRID,
    room: float = WIDE_ROOM,
) -> Scan:
    """Bring a scan and its labels onto a grid as fine as scenes, or another, are at the heart.

    A scan may show a heart in its box or a whole chest. What is far from the heart is left out,
    and the box around the heart has the voxels of ``grid`` in both.

    Args:
        image: The scan.
        labels: Its labels, on the same grid of voxels; ``UNLABELLED`` where nothing is known.
        num_classes: Classes, background included.
        grid: Voxels that the usual box around the heart gets, at least.
        room: What is kept beyond that box on each side, as a fraction of its extent.
    """
    whole = Scan(
        to_trained_axes(image.voxels, image.affine), to_trained_axes(labels.voxels, labels.affine)
    )
    box = cut_box(whole, num_classes=num_classes)[1].shape
    seen, known = cut_box(whole, num_classes=num_classes, room=room)
    shape = tuple(
        round(side * kept / boxed) for side, kept, boxed in zip(grid, known.shape, box, strict=True)
    )
    return Scan(resample_to(seen, shape), resize_labels(known, shape))
