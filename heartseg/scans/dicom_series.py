"""Which series a DICOM folder or archive holds, and which of them can be segmented."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heartseg.errors import DataError
from heartseg.scans.dicom_files import (
    MAX_FILE_BYTES,
    Container,
    open_container,
    read_dataset,
    unreadable,
)
from heartseg.scans.dicom_header import (
    HEADER_TAGS,
    IDENTITY_TAGS,
    Header,
    read_header,
    read_identity,
)
from heartseg.scans.dicom_stack import Stack, count_positions, stack_frames
from heartseg.scans.dicom_values import text_of
from heartseg.scans.volume import spacing_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """One series of MR images.

    Attributes:
        path: The folder, archive or file that it lies in.
        number: By which it is chosen: its series number; where these are missing or not unique,
            its place in the list.
        description: What the scanner calls it, without the patient's name and the like.
        num_slices: At how many positions its images lie.
        spacing_mm: Distance of neighbouring columns, rows and slices; None if it is refused.
        problem: Why it cannot be read as one volume, if so.
        stack: Its images, sorted; None if it is refused.
        identity: Parts of names, identifiers and dates of its headers; see ``reveals``.
    """

    path: Path
    number: int
    description: str
    num_slices: int
    spacing_mm: tuple[float, float, float] | None
    problem: str | None
    stack: Stack | None = field(repr=False)
    identity: frozenset[str] = field(repr=False)

    @property
    def label(self) -> str:
        """The series in a message: ``series 3 "t1 sagittal"``."""
        return f'series {self.number} "{self.description}"'

    def describe(self) -> str:
        """Return number, description, slices and spacing, or why it is refused, in one line."""
        slices = "1 slice" if self.num_slices == 1 else f"{self.num_slices} slices"
        if self.spacing_mm is None:
            return f"{self.label}, {slices}, cannot be read: {self.problem}"
        spacing = " x ".join(f"{step:.2f}" for step in self.spacing_mm)
        return f"{self.label}, {slices}, {spacing} mm"


def find_series(path: Path) -> tuple[Series, ...]:
    """List the series of images that a folder, an archive or a file holds.

    Objects that are no images, such as reports and segmentations, are left out; so are copies of a
    file. Only headers are read.

    Args:
        path: A folder (with those below), a ``.zip`` or a DICOM file.

    Returns:
        The series in the order of their numbers, those that are refused among them; at least one.

    Raises:
        DataError: If there is no series, or a broken file that may belong to the only one.
    """
    with open_container(path) as container:
        headers, broken = _read_headers(container)
    groups: dict[str, list[Header]] = {}
    for header in headers:
        groups.setdefault(header.series_uid, []).append(header)
    if broken:
        what = (
            f"{path}: {broken} of its DICOM files cannot be read: broken, truncated, deflated or "
            f"larger than {MAX_FILE_BYTES // 2**20} MiB"
        )
        if len(groups) < 2:
            raise DataError(f"{what}; slices may be missing, so copy them again")
        logger.warning("%s", what)
    if not groups:
        raise DataError(f"{path}: holds no DICOM images")
    found = list(groups.values())
    numbers = [group[0].number for group in found]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(found) + 1))
    series = [
        _assemble(path, int(number or 0), group)
        for number, group in zip(numbers, found, strict=True)
    ]
    return tuple(sorted(series, key=lambda entry: entry.number))


def choose_series(path: Path, number: int | None = None) -> Series:
    """Return the only series of a folder, archive or file, or the one with a number.

    Raises:
        DataError: If there are several and ``number`` is None, none has the number, or the series
            cannot be read as one volume; the message lists the series.
    """
    return pick_series(find_series(path), number)


def pick_series(found: Sequence[Series], number: int | None = None) -> Series:
    """Return the only one of the series that ``find_series`` found, or the one with a number.

    Raises:
        DataError: As for ``choose_series``.
    """
    path = found[0].path
    listing = "\n".join(f"  {entry.describe()}" for entry in found)
    if number is None and len(found) > 1:
        raise DataError(
            f"{path}: holds {len(found)} series; choose one by its number with --series "
            f"(series= in Python):\n{listing}"
        )
    chosen = [entry for entry in found if number in (None, entry.number)]
    if not chosen:
        raise DataError(f"{path}: holds no series {number}; it holds:\n{listing}")
    series = chosen[0]
    if series.problem is not None:
        raise DataError(f"{path}: {series.label}: {series.problem}")
    return series


def find_identity(path: Path) -> frozenset[str]:
    """Return what identifies a patient in the headers of all DICOM files of a path.

    Args:
        path: A folder (with those below), a ``.zip`` or a DICOM file of any kind.

    Returns:
        Parts of names, identifiers and dates, for ``reveals``.

    Raises:
        DataError: If the path cannot be read.
    """
    identity: frozenset[str] = frozenset()
    with open_container(path) as container:
        for name in container.names:
            try:
                with container.open(name) as stream:
                    dataset = read_dataset(stream, tags=IDENTITY_TAGS)
            except unreadable():
                continue
            if dataset is not None:
                identity |= read_identity(dataset)
    return identity


def may_be_segmentation(file: Path) -> bool:
    """Tell whether a file claims to be a DICOM SEG; one whose header is broken may be."""
    with open_container(file) as container:
        try:
            with container.open(file.name) as stream:
                dataset = read_dataset(stream, tags=["Modality"])
        except unreadable():
            return True
    return dataset is None or text_of(dataset, "Modality") in ("", "SEG")


def _read_headers(container: Container) -> tuple[list[Header], int]:
    """Return the headers of the images, and how many DICOM files are broken."""
    headers: dict[str, Header] = {}
    broken = 0
    for name in container.names:
        try:
            with container.open(name) as stream:
                dataset = read_dataset(stream, tags=HEADER_TAGS)
            header = None if dataset is None else read_header(dataset, name)
        except unreadable():
            broken += 1
            continue
        if header is None:
            continue
        known = headers.get(header.uid or name)
        if known is None or not _are_copies(container, known.file, name):
            headers[header.uid if known is None and header.uid else name] = header
    return list(headers.values()), broken


def _are_copies(container: Container, name: str, other: str) -> bool:
    """Tell whether two files that claim to be the same object are so, byte by byte."""
    try:
        with container.open(name) as stream, container.open(other) as copy:
            return stream.read() == copy.read()
    except unreadable():
        return False


def _assemble(path: Path, number: int, headers: Sequence[Header]) -> Series:
    """Make a series of the headers of its files."""
    frames = [frame for header in headers for frame in header.frames]
    problems = [header.problem for header in headers if header.problem is not None]
    stack, problem = None, problems[0] if problems else None
    num_slices = sum(header.num_frames for header in headers)
    try:
        if problem is None:
            num_slices = count_positions(frames)
            stack = stack_frames(frames, bits=max(header.bits for header in headers))
    except DataError as error:
        problem = str(error)
    spacing = None if stack is None else tuple(float(step) for step in spacing_of(stack.affine))
    return Series(
        path=path,
        number=number,
        description=headers[0].description,
        num_slices=num_slices,
        spacing_mm=spacing if spacing is None else (spacing[0], spacing[1], spacing[2]),
        problem=problem,
        stack=stack,
        identity=frozenset().union(*(header.identity for header in headers)),
    )
