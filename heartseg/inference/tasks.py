"""What is to be segmented, under which names, and whether the results may be written."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heartseg.errors import DataError
from heartseg.exchange.label_maps import read_labels
from heartseg.files import UNFINISHED, check_distinct, image_stem, remove_unfinished, replacing
from heartseg.inference.outputs.output_format import OutputFormat
from heartseg.inference.outputs.registry import (
    PICTURE_FORMATS,
    SCAN_FORMATS,
    Files,
    check_source,
    name_files,
)
from heartseg.labels import LabelTable, Structure
from heartseg.ownership import RECORD, add_to_record, check_own
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.reading import ScanSource, find_scan
from heartseg.slices.store import IMAGE_SUFFIXES

COMMAND = "infer"
"""The name under which results are recorded in their folder."""


@dataclass(frozen=True)
class Task:
    """One input and the files of its results.

    Attributes:
        file: The scan or picture.
        case: What the names of its results begin with.
        files: Its results by output format.
        source: The scan, found and not read yet; None if the input is a picture.
        label_map: The label map beside a scan of the data set, if there is one.
        absent: Keys of structures that the patient does not have.
    """

    file: Path
    case: str
    files: Files
    source: ScanSource | None = None
    label_map: Path | None = None
    absent: tuple[str, ...] = ()

    @property
    def is_scan(self) -> bool:
        """Whether the input is a scan, not a picture."""
        return self.source is not None

    @property
    def outputs(self) -> list[Path]:
        """All files of its results."""
        return [file for files in self.files.values() for file in files]

    def absolute(self) -> "Task":
        """Return the task with absolute paths, for a process with another working directory."""
        files = {name: tuple(f.absolute() for f in files) for name, files in self.files.items()}
        label_map = self.label_map and self.label_map.absolute()
        source = self.source and self.source.absolute()
        return replace(
            self, file=self.file.absolute(), files=files, source=source, label_map=label_map
        )


def name_case(scan: ScanSource, *, image_suffix: str = "") -> str:
    """Return the name of the case that a scan is of, so that results pair with references.

    Args:
        scan: The scan.
        image_suffix: What a data set puts behind the name of a case; it is left out.
    """
    stem = scan.name
    if image_suffix and stem.lower().endswith(image_suffix.lower()):
        stem = stem[: -len(image_suffix)] or stem
    return stem


def plan_tasks(
    inputs: Sequence[Path],
    output_dir: Path,
    *,
    structures: Sequence[Structure],
    scan_formats: Sequence[str],
    picture_formats: Sequence[str],
    series: int | None = None,
    image_suffix: str = "",
    label_suffix: str = "",
    formats_option: str = "formats",
) -> tuple[list[Task], list[str]]:
    """Name the results of every input.

    Args:
        inputs: Scans and pictures.
        output_dir: Where the results go.
        structures: The structures that are wanted.
        scan_formats: Output formats of a scan, by name.
        picture_formats: Output formats of a picture, by name.
        series: Number of the DICOM series; None if there is only one.
        image_suffix: As for ``name_case``.
        label_suffix: What a data set puts behind the case name of a label map.
        formats_option: Where the names of the formats come from, for an error.

    Returns:
        The tasks, and one message per input that cannot be read.

    Raises:
        ConfigError: If there is no format of a name.
        DataError: If two inputs would have the same results, or a format does not suit an input.
        MissingPackageError: If DICOM needs a package that is not installed.
    """
    tasks: list[Task] = []
    problems: list[str] = []
    formats: Mapping[str, OutputFormat[Any]]
    for file in inputs:
        source, label_map, case = None, None, image_stem(file)
        formats, chosen = PICTURE_FORMATS, picture_formats
        if file.is_dir() or not file.name.lower().endswith(IMAGE_SUFFIXES):
            formats, chosen = SCAN_FORMATS, scan_formats
            try:
                source = find_scan(file, series=series)
            except DataError as error:
                problems.append(str(error))
                continue
            case = name_case(source, image_suffix=image_suffix)
            label_map = find_label_map(source, image_suffix, label_suffix)
            check_source(chosen, source.series, source=str(file))
        elif series is not None:
            problems.append(f"{file}: a series can be chosen in DICOM only")
            continue
        files = name_files(
            formats,
            chosen,
            folder=output_dir,
            case=case,
            structures=structures,
            option=formats_option,
        )
        tasks.append(Task(file, case, files, source, label_map))
    check_distinct(
        ((task.file, task.outputs) for task in tasks), advice="segment them into different folders"
    )
    return tasks, problems


def find_label_map(scan: ScanSource, image_suffix: str, label_suffix: str) -> Path | None:
    """Return the label map that a data set keeps beside a scan, if it is there.

    Args:
        scan: The scan.
        image_suffix: As for ``name_case``.
        label_suffix: What a data set puts behind the case name of a label map.
    """
    case = name_case(scan, image_suffix=image_suffix)
    if scan.series is not None or not label_suffix or case == scan.name:
        return None
    file = scan.path.with_name(f"{case}{label_suffix}{scan.path.name[len(scan.name) :]}")
    return file if file.is_file() else None


def fingerprint_label_map(label_map: Path | None, table: LabelTable) -> str | None:
    """Return the fingerprint of the label map beside a scan, by which a model may know the patient.

    None if there is none, or it cannot be read: nothing else depends on it.
    """
    if label_map is None:
        return None
    try:
        return fingerprint_labels(read_labels(label_map, table, partial=True))
    except DataError:
        return None


def check_outputs(
    output_dir: Path,
    tasks: Sequence[Task],
    *,
    overwrite: bool,
    known_cases: Collection[str] = (),
) -> None:
    """Make sure that no result replaces an input, or a file that is to be kept.

    Results that an interrupted call was about to write may be replaced, and with ``overwrite`` what
    an earlier call wrote. What somebody else made is never replaced.

    Args:
        output_dir: Where the results go.
        tasks: The inputs and their results.
        overwrite: Whether the user asked to replace earlier results.
        known_cases: Cases of which the folder has results by its table of volumes. Their files were
            made by an earlier call too, if the folder is of version 0.1 and has no record.

    Raises:
        DataError: If one would.
    """
    has_record = (output_dir / RECORD).is_file()
    unfinished = read_unfinished(output_dir)
    inputs = {task.file.resolve() for task in tasks}
    for task in tasks:
        for output in task.outputs:
            if output.resolve() in inputs:
                raise DataError(f"{output}: is an input and would be replaced; choose --output")
            if output.exists() and not overwrite and output.name not in unfinished:
                raise DataError(
                    f"{output}: already exists; pass --overwrite to replace it, or choose --output"
                )
            of_old_version = not has_record and task.is_scan and task.case in known_cases
            if output.name not in unfinished and not of_old_version:
                check_own(output, COMMAND)


def mark_unfinished(output_dir: Path, tasks: Sequence[Task]) -> None:
    """Note in a folder which results are about to be written, for a call that follows.

    What an earlier call was about to write stays noted.
    """
    names = {output.name for task in tasks for output in task.outputs}
    _write_unfinished(output_dir, names | read_unfinished(output_dir))
    remove_unfinished(output_dir)


def mark_finished(output_dir: Path, tasks: Sequence[Task]) -> None:
    """Record the results, and remove their note and what a worker left that was killed.

    The note stays for results of an earlier call that was interrupted and did other inputs.
    """
    written = [output for task in tasks for output in task.outputs if output.is_file()]
    if written:
        add_to_record(output_dir, COMMAND, written)
    remove_unfinished(output_dir)
    done = {output.name for task in tasks for output in task.outputs}
    left = {name for name in read_unfinished(output_dir) - done if (output_dir / name).is_file()}
    if left:
        _write_unfinished(output_dir, left)
    else:
        (output_dir / UNFINISHED).unlink(missing_ok=True)


def _write_unfinished(output_dir: Path, names: Collection[str]) -> None:
    with replacing(output_dir / UNFINISHED) as temporary:
        temporary.write_text("\n".join(sorted(names)) + "\n", encoding="utf-8")


def read_unfinished(output_dir: Path) -> set[str]:
    """Return the names of the results that an interrupted call was about to write.

    Raises:
        DataError: If the note cannot be read.
    """
    marker = output_dir / UNFINISHED
    try:
        return set(marker.read_text(encoding="utf-8").splitlines()) if marker.is_file() else set()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{marker}: cannot be read ({error})") from error
