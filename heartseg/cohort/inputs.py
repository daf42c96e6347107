"""The inputs that a user passes on the command line: files, and folders of files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from heartseg.errors import DataError
from heartseg.files import (
    image_stem,
    is_readable_name,
    list_files,
    list_folder,
    printable_name,
)
from heartseg.scans.dicom_files import archives_dicom, holds_dicom
from heartseg.scans.dicom_series import may_be_segmentation
from heartseg.scans.reading import ARCHIVE_SUFFIXES, DICOM_SUFFIXES, SCAN_SUFFIXES, is_dicom
from heartseg.scans.volume import is_nifti
from heartseg.slices.store import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

READABLE = (*IMAGE_SUFFIXES, *SCAN_SUFFIXES)
"""How the names of pictures and scans end, in small letters."""
SUGGESTED, DRAWN = "_suggested", "_drawn"
"""What follows the case name where ``suggest`` and ``refine`` write a label map of some slices."""
_IN_FOLDERS = tuple(ending for ending in READABLE if ending not in DICOM_SUFFIXES)
"""Endings of files that are an input each; a DICOM file in a folder is one image of a series."""


def find_inputs(
    paths: Sequence[Path],
    *,
    endings: Sequence[str] = READABLE,
    skipped_suffixes: Sequence[str] = (),
) -> tuple[list[Path], list[str]]:
    """List the pictures and volumes among files and in folders.

    Args:
        paths: Files and folders. The files of a folder come in natural order; its subfolders are
            not searched.
        endings: How the name of an input may end, in lower case.
        skipped_suffixes: A file of a *folder* is skipped, and logged, if its name ends in one of
            these before ``.nii.gz`` and the like. A file that is itself in ``paths`` is never
            skipped.

    Returns:
        The files, and one message per path without an input.
    """
    files: list[Path] = []
    problems: list[str] = []
    for path in paths:
        problem = None if path.is_dir() else _find_problem(path, endings)
        if problem is not None:
            problems.append(problem)
        elif not path.is_dir():
            files.append(path)
        else:
            try:
                files += _list_folder(path, tuple(endings), tuple(skipped_suffixes))
            except DataError as error:
                problems.append(str(error))
    return _without_repetitions(files), problems


def find_images(
    paths: Sequence[Path], *, skipped_suffixes: Sequence[str] = ()
) -> tuple[list[Path], list[str]]:
    """List the pictures and scans of any format among files and in folders.

    The DICOM files of a folder are one input, which is the folder. Those of its subfolders count
    only if nothing else is in the folder. An archive in a folder counts only if it holds DICOM.

    Args:
        paths: As for ``find_inputs``; also DICOM files whatever their names.
        skipped_suffixes: As for ``find_inputs``.

    Returns:
        As for ``find_inputs``.
    """
    inputs: list[Path] = []
    problems: list[str] = []
    for path in paths:
        found, wrong = find_inputs(
            [path],
            endings=_IN_FOLDERS if path.is_dir() else READABLE,
            skipped_suffixes=skipped_suffixes,
        )
        if path.is_dir():
            found, wrong = _complete_folder(path, found, wrong)
        elif wrong and path.is_file() and is_readable_name(path) and is_dicom(path):
            found, wrong = [path], []
        inputs += found
        problems += wrong
    return _without_repetitions(inputs), problems


def _complete_folder(
    folder: Path, files: Sequence[Path], problems: Sequence[str]
) -> tuple[list[Path], list[str]]:
    """Return the inputs of a folder, given its files that are no single images of a series."""
    idle = [file for file in files if _is_archive(file) and not archives_dicom(file)]
    if idle:
        names = ", ".join(file.name for file in idle)
        logger.info("%s: skipped, since they hold no DICOM: %s", folder, names)
    kept = [file for file in files if file not in idle]
    if holds_dicom(folder, below=not files, ignored=_IN_FOLDERS):
        if is_readable_name(folder.resolve()):
            return [folder, *kept], []
        name = printable_name(folder.resolve())
        return kept, [f"{name}: expected a name in UTF-8; rename the folder"]
    if idle and not kept:
        return [], [f"{folder}: expected pictures or scans, found archives without DICOM"]
    return kept, list(problems)


def _is_archive(file: Path) -> bool:
    return file.name.lower().endswith(ARCHIVE_SUFFIXES)


def _find_problem(path: Path, endings: Sequence[str]) -> str | None:
    """Say why a path that is no folder is no input, judged by its name."""
    if not is_readable_name(path):
        return f"{printable_name(path)}: expected a name in UTF-8; rename the file"
    if not path.exists() and not path.is_symlink():
        return f"{path}: no such file or folder"
    if not path.name.lower().endswith(tuple(endings)):
        return f"{path}: expected a name that ends in {', '.join(endings)}"
    return None


def _without_repetitions(files: Sequence[Path]) -> list[Path]:
    """Leave out files that were named before, also through a link or another path."""
    kept: dict[Path, Path] = {}
    for file in files:
        first = kept.setdefault(file.resolve(), file)
        if first is not file:
            logger.info("%s: is %s, which was named before; it counts once", file, first)
    return list(kept.values())


def _list_folder(
    folder: Path, endings: tuple[str, ...], skipped_suffixes: tuple[str, ...]
) -> list[Path]:
    readable = list_files(folder, endings)
    suffixes = tuple(suffix.lower() for suffix in skipped_suffixes if suffix)
    skipped = [file for file in readable if image_stem(file).lower().endswith(suffixes)]
    if skipped:
        logger.info(
            "%s: skipped because of their names: %s",
            folder,
            ", ".join(file.name for file in skipped),
        )
    kept, images = split_dicom([file for file in readable if file not in skipped])
    if images:
        logger.info("%s: %d DICOM files are no label maps, and skipped", folder, len(images))
    copies = find_copies(kept)
    if copies:
        names = ", ".join(file.name for file in copies)
        logger.info("%s: skipped, since their label map is there as NIfTI: %s", folder, names)
    parts = find_parts(readable)
    if parts:
        names = ", ".join(file.name for file in parts)
        logger.info("%s: skipped, since they hold some slices of a label map: %s", folder, names)
    kept = [file for file in kept if file not in (*copies, *parts)]
    if not kept:
        folders = [entry.name for entry in list_folder(folder) if entry.is_dir()]
        hint = f"; pass one of its subfolders: {', '.join(folders[:5])}" if folders else ""
        raise DataError(
            f"{folder}: expected files that end in {', '.join(endings)}, found none{hint}"
        )
    return kept


def split_dicom(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separate the single DICOM files that are images from all other files, by their headers."""
    images = [
        file
        for file in files
        if file.name.lower().endswith(DICOM_SUFFIXES) and not may_be_segmentation(file)
    ]
    return [file for file in files if file not in images], images


def find_copies(files: Sequence[Path]) -> list[Path]:
    """Return the segmentations of a folder that ``infer`` wrote beside the label map in NIfTI.

    They are ``NAME.seg.nrrd`` and ``NAME.seg.dcm`` beside ``NAME_seg.nii.gz``.
    """
    written = _find_written(files)
    return [
        file
        for file in files
        if file.stem.endswith(".seg") and file.with_name(file.stem.removesuffix(".seg")) in written
    ]


def find_parts(files: Sequence[Path]) -> list[Path]:
    """Return the label maps of some slices that ``suggest`` and ``refine`` wrote into a folder.

    They are ``NAME_suggested.nii.gz`` and ``NAME_drawn.nii.gz`` beside ``NAME_seg.nii.gz``.
    """
    written = _find_written(files)
    return [
        file
        for file in files
        for ending in (SUGGESTED, DRAWN)
        if image_stem(file).endswith(ending)
        and file.with_name(image_stem(file).removesuffix(ending)) in written
    ]


def _find_written(files: Sequence[Path]) -> set[Path]:
    """Return what the results of ``infer`` begin with that have a label map in NIfTI."""
    return {
        file.with_name(image_stem(file).removesuffix("_seg"))
        for file in files
        if is_nifti(file) and image_stem(file).endswith("_seg")
    }
