"""Many scans and pictures, one after the other: each is read, segmented and written."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.inference.outputs.registry import PICTURE_FORMATS, SCAN_FORMATS, write_files
from heartseg.inference.results import SegmentedPicture, Wanted, restrict, segment_scan
from heartseg.inference.segmenter import Segmenter, SliceSegmenter
from heartseg.inference.slice_prediction import lay_picture
from heartseg.inference.tasks import Task, fingerprint_label_map
from heartseg.inference.volumetry import VolumeRow
from heartseg.progress import Report, silent
from heartseg.scans.oblique import check_straight
from heartseg.scans.volume import Volume
from heartseg.slices.recipe import SliceRecipe
from heartseg.slices.store import read_gray

logger = logging.getLogger(__name__)

Reading = tuple[Task, "Future[Volume]"]
"""A task, and its scan as soon as it is read."""


@dataclass(frozen=True)
class WrittenScan:
    """What is known of a scan whose results are written; small, so that it travels well.

    Attributes:
        rows: Its rows of the table of volumes.
        notices: What makes it doubtful, each with the file.
    """

    rows: tuple[VolumeRow, ...]
    notices: tuple[str, ...]


class BatchProgress:
    """Counts the inputs of a batch, and reports them."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def finish(self, what: str) -> None:
        """Report that one input more is done."""
        self._done += 1
        self._report(self._done, self._total, what)

    def within(self, what: str) -> Report:
        """Return what reports the parts of one input."""

        def report(_done: int, _total: int, part: str) -> None:
            self._report(self._done, self._total, f"{what}: {part}")

        return report


def segment_scans(
    segmenter: Segmenter,
    readings: Iterable[Reading],
    progress: BatchProgress,
    *,
    wanted: Wanted,
) -> tuple[list[VolumeRow], list[str]]:
    """Segment scans, and write the results of each.

    Args:
        segmenter: The model.
        readings: What ``read_ahead`` gives.
        wanted: What is wanted of each scan.
        progress: Called after each part of a scan, and after each scan.

    Returns:
        The rows of the table of volumes, and one message per scan that failed.
    """
    rows: list[VolumeRow] = []
    problems = []
    for task, reading in readings:
        try:
            written = segment_to_files(
                task,
                reading.result(),
                segmenter,
                wanted=wanted,
                report=progress.within(task.case),
            )
        except DataError as error:
            problems.append(str(error))
        else:
            rows += written.rows
            log_notices(written)
        progress.finish(task.case)
    return rows, problems


def segment_to_files(
    task: Task,
    scan: Volume,
    segmenter: Segmenter,
    *,
    wanted: Wanted,
    report: Report = silent,
) -> WrittenScan:
    """Segment a scan and write its results.

    Raises:
        DataError: If the scan does not suit the model, or a file cannot be written.
        ModelError: If the model cannot be used.
    """
    if "suggestion" in task.files:
        check_straight(scan.affine, needed_by="the output suggestion", source=str(task.file))
    with _naming(task.file):
        result = segment_scan(
            task.case,
            scan,
            segmenter,
            absent=task.absent,
            label_hash=fingerprint_label_map(task.label_map, segmenter.model.table),
            series=None if task.source is None else task.source.series,
            report=report,
        )
    result = restrict(result, wanted)
    write_files(SCAN_FORMATS, task.files, result)
    return WrittenScan(result.rows, tuple(f"{task.file}: {notice}" for notice in result.notices))


def log_notices(written: WrittenScan) -> None:
    """Log what makes a segmentation doubtful."""
    for notice in written.notices:
        logger.warning("%s", notice)


def read_ahead(tasks: Sequence[Task]) -> Iterator[Reading]:
    """Read each scan while the one before is segmented; never more than one ahead.

    The first is read from this call on, while the model loads. Pictures are left out.
    """
    scans = [(task, task.source) for task in tasks if task.source is not None]
    reader = ThreadPoolExecutor(max_workers=1)
    upcoming = [reader.submit(source.read) for _, source in scans[:1]]

    def readings() -> Iterator[Reading]:
        with reader:
            for index, (task, _) in enumerate(scans):
                reading = upcoming.pop()
                following = scans[index + 1 : index + 2]
                upcoming.extend(reader.submit(source.read) for _, source in following)
                yield task, reading

    return readings()


def segment_pictures(
    segmenter: SliceSegmenter,
    tasks: Sequence[Task],
    progress: BatchProgress,
    *,
    wanted: Wanted,
) -> list[str]:
    """Segment pictures, several at once, and write the results of each; see ``segment_scans``.

    Returns:
        One message per picture that failed.
    """
    problems: list[str] = []
    for absent, batch in _batch(tasks, segmenter.batch_size):
        readings = [(task, _read_picture(task.file, segmenter.model.recipe)) for task in batch]
        problems += [reading for _, reading in readings if isinstance(reading, str)]
        good = [(task, image) for task, image in readings if not isinstance(image, str)]
        label_maps = segmenter.segment_slices([image for _, image in good], absent=absent)
        for (task, image), labels in zip(good, label_maps, strict=True):
            kept = wanted.keep(labels, segmenter.model.table)
            result = SegmentedPicture(image, kept, segmenter.model.table)
            write_files(PICTURE_FORMATS, task.files, result)
        for task in batch:
            progress.finish(task.case)
    return problems


def _batch(tasks: Sequence[Task], size: int) -> Iterator[tuple[tuple[str, ...], list[Task]]]:
    """Yield pictures of patients who lack the same structures, several at once, and these."""
    for absent, alike in groupby(tasks, key=lambda task: task.absent):
        remaining = list(alike)
        for start in range(0, len(remaining), size):
            yield absent, remaining[start : start + size]


def _read_picture(file: Path, recipe: SliceRecipe) -> NDArray[np.uint8] | str:
    """Return the grey levels of a picture, or why it cannot be segmented."""
    try:
        image = read_gray(file)
        with _naming(file):
            lay_picture(image, recipe)
    except DataError as error:
        return str(error)
    return image


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Put the file before the errors of functions that know arrays only."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
