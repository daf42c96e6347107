"""Which files belong to which case."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from heartseg.errors import DataError
from heartseg.files import image_stem, list_files, log_notice, natural_key
from heartseg.scans.reading import SCAN_SUFFIXES
from heartseg.scans.volume import is_nifti

_SAFE_NAME = re.compile(r"[\w+-][\w .+-]*")


@dataclass(frozen=True)
class CaseFiles:
    """The files of one patient's scan.

    Attributes:
        name: Case name, which is what precedes the suffix in the file names.
        image_file: Intensities.
        label_file: Label map.
    """

    name: str
    image_file: Path
    label_file: Path


@dataclass(frozen=True)
class Place:
    """Where the files of one sort lie, and how they are named.

    Attributes:
        folder: Their folder.
        suffix: What follows the case name, before ``.nii`` or ``.nii.gz``.
    """

    folder: Path
    suffix: str = ""

    def find_volumes(self) -> dict[str, list[Path]]:
        """List the files by case name; see ``find_volumes``."""
        return find_volumes(self.folder, self.suffix)

    def name(self, case: str) -> str:
        """Return the usual file name of a case."""
        return f"{case}{self.suffix}.nii.gz"


def find_cases(images: Place, labels: Place) -> tuple[list[CaseFiles], list[str]]:
    """Pair images and label maps by case name.

    Args:
        images: Where the images lie.
        labels: Where the label maps lie.

    Returns:
        The complete cases in natural order, and one message per case that is not complete.

    Raises:
        DataError: If a folder is missing, or there are neither images nor label maps.
    """
    image_files, label_files = images.find_volumes(), labels.find_volumes()
    if not image_files and not label_files:
        raise DataError(_describe_absence(images, labels))
    cases: list[CaseFiles] = []
    problems: list[str] = []
    for name in sorted(image_files.keys() | label_files.keys(), key=natural_key):
        found = image_files.get(name, []), label_files.get(name, [])
        problem = _find_problem(name, found, (images, labels))
        if problem is None:
            cases.append(CaseFiles(name, found[0][0], found[1][0]))
        else:
            problems.append(problem)
    return cases, problems


def _describe_absence(images: Place, labels: Place) -> str:
    if images.folder == labels.folder:
        return (
            f"{images.folder}: expected NIfTI files named CASE{images.suffix}.nii.gz and "
            f"CASE{labels.suffix}.nii.gz, found none"
        )
    return (
        f"{images.folder.parent}: expected NIfTI files in {images.folder.name} and "
        f"{labels.folder.name}, found none"
    )


def _find_problem(
    name: str, found: tuple[list[Path], list[Path]], places: tuple[Place, Place]
) -> str | None:
    """Return why files are not a complete case; None if they are."""
    if not _SAFE_NAME.fullmatch(name):
        return (
            f"{places[0].folder}: the case name {name!r} holds characters that are not allowed "
            "(letters, digits, space, . _ + - are)"
        )
    images, labels = found
    if not images or not labels:
        present, lacking = (images[0], places[1]) if images else (labels[0], places[0])
        partner = lacking.name(name)
        if places[0].folder != places[1].folder:
            partner = f"{lacking.folder.name}/{partner}"
        return f"{present}: has no partner {partner}"
    for files in found:
        if len(files) > 1:
            return f"{files[0]}: the same case is also in {files[1].name}; remove one of them"
    return None


def find_volumes(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """List the NIfTI files of a folder whose names end in a suffix, by what precedes the suffix.

    Files of other formats with such names are left out, and logged as a warning.

    Raises:
        DataError: If the folder is missing.
    """
    found: dict[str, list[Path]] = {}
    others: list[Path] = []
    for file in list_files(folder, SCAN_SUFFIXES):
        stem = image_stem(file)
        if stem.lower().endswith(suffix.lower()):
            if is_nifti(file):
                found.setdefault(stem[: len(stem) - len(suffix)], []).append(file)
            elif suffix:
                others.append(file)
    if others:
        names = ", ".join(file.name for file in others)
        log_notice(logging.WARNING, f"{folder}: skipped, since training data are NIfTI: {names}")
    return found
