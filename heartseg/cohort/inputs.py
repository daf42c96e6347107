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
from heartseg.scans.volume import NIFTI_SUFFIXES
from heartseg.slices.store import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

READABLE = (*IMAGE_SUFFIXES, *NIFTI_SUFFIXES)


def find_inputs(
    paths: Sequence[Path],
    *,
    endings: Sequence[str] = READABLE,
    skipped_suffixes: Sequence[str] = (),
) -> tuple[list[Path], list[str]]:
    """List the pictures and NIfTI volumes among files and in folders.

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
        if path.is_dir():
            try:
                files += _list_folder(path, tuple(endings), tuple(skipped_suffixes))
            except DataError as error:
                problems.append(str(error))
        elif not is_readable_name(path):
            problems.append(f"{printable_name(path)}: expected a name in UTF-8; rename the file")
        elif not path.exists() and not path.is_symlink():
            problems.append(f"{path}: no such file or folder")
        elif not path.name.lower().endswith(tuple(endings)):
            problems.append(f"{path}: expected a name that ends in {', '.join(endings)}")
        else:
            files.append(path)
    return _without_repetitions(files), problems


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
    kept = [file for file in readable if file not in skipped]
    if not kept:
        folders = [entry.name for entry in list_folder(folder) if entry.is_dir()]
        hint = f"; pass one of its subfolders: {', '.join(folders[:5])}" if folders else ""
        raise DataError(
            f"{folder}: expected files that end in {', '.join(endings)}, found none{hint}"
        )
    return kept
