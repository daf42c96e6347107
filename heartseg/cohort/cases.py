"""Which files belong to which case."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heartseg.errors import DataError
from heartseg.files import image_stem, list_files, natural_key
from heartseg.scans.reading import SCAN_SUFFIXES
from heartseg.scans.volume import is_nifti

logger = logging.getLogger(__name__)

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


def find_cases(
    folder: Path, *, image_suffix: str, label_suffix: str
) -> tuple[list[CaseFiles], list[str]]:
    """Pair the images and label maps of a folder by case name.

    Args:
        folder: The folder with the volumes.
        image_suffix: What follows the case name of an image, before ``.nii`` or ``.nii.gz``.
        label_suffix: What follows the case name of a label map.

    Returns:
        The complete cases in natural order, and one message per case that is not complete.

    Raises:
        DataError: If the folder is missing or holds neither images nor label maps.
    """
    images = find_volumes(folder, image_suffix)
    labels = find_volumes(folder, label_suffix)
    if not images and not labels:
        raise DataError(
            f"{folder}: expected NIfTI files named CASE{image_suffix}.nii.gz and "
            f"CASE{label_suffix}.nii.gz, found none"
        )
    cases, problems = [], []
    for name in sorted(images.keys() | labels.keys(), key=natural_key):
        files = images.get(name, []), labels.get(name, [])
        problem = _find_problem(folder, name, *files, suffixes=(image_suffix, label_suffix))
        if problem is None:
            cases.append(CaseFiles(name, files[0][0], files[1][0]))
        else:
            problems.append(problem)
    return cases, problems


def _find_problem(
    folder: Path,
    name: str,
    images: Sequence[Path],
    labels: Sequence[Path],
    *,
    suffixes: tuple[str, str],
) -> str | None:
    """Return why files are not a complete case; None if they are."""
    if not _SAFE_NAME.fullmatch(name):
        return (
            f"{folder}: the case name {name!r} holds characters that are not allowed "
            "(letters, digits, space, . _ + - are)"
        )
    if not images or not labels:
        present, missing = (images[0], suffixes[1]) if images else (labels[0], suffixes[0])
        return f"{present}: has no partner {name}{missing}.nii.gz"
    for files in (images, labels):
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
        logger.warning("%s: skipped, since training data are NIfTI: %s", folder, names)
    return found
