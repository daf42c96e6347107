"""The results of segmented volumes: label maps, previews, movies, and rows of ``volumes.csv``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.inference.plausibility import is_doubtful
from heartseg.inference.segmenter import Answer, Segmenter
from heartseg.inference.volumetry import VolumeRow, measure_volumes
from heartseg.labels import LabelTable
from heartseg.modelfile.description import ModelDescription
from heartseg.pictures.movie import write_movie
from heartseg.pictures.overlays import overlay_slices
from heartseg.pictures.previews import preview_sheet, to_true_aspect
from heartseg.progress import Report
from heartseg.scans.geometry import SliceLayout
from heartseg.scans.intensity import find_window
from heartseg.scans.volume import Volume, write_label_map
from heartseg.slices.store import write_color

VOLUMES = "volumes.csv"
# A GIF keeps the noise of a scan: 120 slices take 12 MB at 384 pixels, 5 MB at 256.
MOVIE_SIDE = {".mp4": 384, ".gif": 256}


@dataclass(frozen=True)
class Task:
    """One input and its results.

    Attributes:
        file: The input.
        name: What the names of its results begin with.
        outputs: Every file that is written for it, the main one first.
    """

    file: Path
    name: str
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class Segmented:
    """What is told of a segmented volume.

    Attributes:
        rows: Its rows of ``volumes.csv``.
        notices: What makes it doubtful.
    """

    rows: list[VolumeRow]
    notices: list[str]


def segment_to_files(
    task: Task, image: Volume, segmenter: Segmenter, *, report: Report
) -> Segmented:
    """Segment a volume and write its results."""
    with naming(task.file):
        answer = segmenter.segment(image, report=report)
    _write_volume(task, image, answer.labels, segmenter.model)
    return _measure(task, image, answer, segmenter.model.table)


def _measure(task: Task, image: Volume, answer: Answer, table: LabelTable) -> Segmented:
    """Return the rows of a volume, and what makes it doubtful."""
    doubtful = None if answer.quality is None else is_doubtful(answer.quality)
    rows = measure_volumes(
        task.name, answer.labels, image.affine, table, quality=answer.quality, doubtful=doubtful
    )
    notices = [f"{task.file}: {notice}" for notice in answer.notices]
    uncertain = [row.structure for row in rows if "doubtful" in row.flags]
    if uncertain and not answer.notices:
        notices.append(
            f"{task.file}: the looks at the scan agree poorly on {', '.join(uncertain)}; flagged "
            f"doubtful in {VOLUMES}"
        )
    return Segmented(rows, notices)


def _write_volume(
    task: Task, image: Volume, labels: NDArray[np.uint8], model: ModelDescription
) -> None:
    recipe, table = model.recipe, model.table
    limits = find_window(image.voxels, recipe.window, recipe.window_range)
    label_file, preview_file, *movie_files = task.outputs
    write_label_map(label_file, labels, like=image, table=table)
    sheet = preview_sheet(image, labels, table, plane=recipe.plane, limits=limits)
    write_color(preview_file, sheet)
    spacing_mm = SliceLayout.from_affine(image.affine, recipe.plane).spacing_mm(image.affine)
    for movie_file in movie_files:
        side = MOVIE_SIDE[movie_file.suffix]
        pictures = overlay_slices(image, labels, table, plane=recipe.plane, limits=limits)
        frames = (to_true_aspect(p, spacing_mm, longest_side=side) for p in pictures)
        write_movie(movie_file, frames)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name the input in the errors of the core, which knows no files."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
