"""Which files belong to which case."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from heartseg.errors import DataError
from heartseg.files import list_folder, natural_key
from heartseg.scans.volume import NIFTI_SUFFIXES

_SAFE_NAME = re.compile(r"[\w+-][\w .+-]*")


@dataclass(frozen=True)
class CaseFiles:
    """The files of one patient's scan.

    Attributes:
        name: Case name: what stands before the suffix in the file names.
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
        folder: Where the volumes lie.
        image_suffix: What follows the case name of an image, before ``.nii`` or ``.nii.gz``.
        label_suffix: What follows the case name of a label map.

    Returns:
        The complete cases in natural order, and one message a case that is not.

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
        image_files, label_files = images.get(name, []), labels.get(name, [])
        if not _SAFE_NAME.fullmatch(name):
            problems.append(
                f"{folder}: the case name {name!r} holds characters that are not allowed "
                "(letters, digits, space, . _ + - are)"
            )
        elif not image_files or not label_files:
            present, missing = (
                (image_files[0], label_suffix) if image_files else (label_files[0], image_suffix)
            )
            problems.append(f"{present}: has no partner {name}{missing}.nii.gz")
        elif len(image_files) > 1 or len(label_files) > 1:
            twice = image_files if len(image_files) > 1 else label_files
            problems.append(f"{twice[0]}: the same case is also in {twice[1].name}")
        else:
            cases.append(CaseFiles(name, image_files[0], label_files[0]))
    return cases, problems


def find_volumes(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """List the NIfTI files of a folder whose names end in a suffix, by what stands before it.

    Raises:
        DataError: If the folder is missing.
    """
    found: dict[str, list[Path]] = {}
    for file in list_folder(folder):
        if not file.name.endswith(NIFTI_SUFFIXES):
            continue
        stem = file.name.removesuffix(".gz").removesuffix(".nii")
        if stem.endswith(suffix):
            found.setdefault(stem.removesuffix(suffix), []).append(file)
    return found


def read_categories(file: Path, *, case_prefix: str = "pat") -> dict[str, str]:
    """Read each case's category from the clinical table of HVSMR-2.0.

    Args:
        file: CSV with the columns ``Pat`` (number) and ``Category``.
        case_prefix: What stands before the number in case names.

    Returns:
        Category by case name; cases without a category are left out.

    Raises:
        DataError: If the table is missing or lacks a column.
    """
    import csv

    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from error
    if not rows or not {"Pat", "Category"} <= rows[0].keys():
        raise DataError(f"{file}: expected a table with the columns Pat and Category")
    twice = [name for name, count in Counter(row["Pat"] for row in rows).items() if count > 1]
    if twice:
        raise DataError(f"{file}: the patient {twice[0]} occurs twice")
    return {f"{case_prefix}{row['Pat']}": row["Category"] for row in rows if row["Category"]}
