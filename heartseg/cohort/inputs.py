"""What the user names on the command line: files, and folders of files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from heartseg.errors import DataError
from heartseg.files import image_stem, list_folder
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
    """List the pictures and NIfTI volumes that paths name.

    Args:
        paths: Files, and folders; the files of a folder follow in natural order, without those of
            the folders below.
        endings: How the name of an input ends, in small letters.
        skipped_suffixes: Files of a *folder* whose name, without ``.nii.gz`` and the like, ends so
            are left out and logged; a file that is named itself is always taken.

    Returns:
        The files, and one message a path that gives none.
    """
    files: list[Path] = []
    problems: list[str] = []
    for path in paths:
        if path.is_dir():
            try:
                files += _list_folder(path, tuple(endings), tuple(skipped_suffixes))
            except DataError as error:
                problems.append(str(error))
        elif not path.exists():
            problems.append(f"{path}: no such file or folder")
        elif not path.name.lower().endswith(tuple(endings)):
            problems.append(f"{path}: expected a name that ends in {', '.join(endings)}")
        else:
            files.append(path)
    return files, problems


def _list_folder(
    folder: Path, endings: tuple[str, ...], skipped_suffixes: tuple[str, ...]
) -> list[Path]:
    entries = list_folder(folder)
    # Names that start with a dot are unfinished files, or what macOS puts beside the real ones.
    readable = [
        entry
        for entry in entries
        if entry.name.lower().endswith(endings)
        and not entry.name.startswith(".")
        and entry.is_file()
    ]
    skipped = [file for file in readable if image_stem(file).endswith(skipped_suffixes)]
    if skipped:
        logger.info(
            "%s: left out because of their names: %s",
            folder,
            ", ".join(file.name for file in skipped),
        )
    kept = [file for file in readable if file not in skipped]
    if not kept:
        folders = [entry.name for entry in entries if entry.is_dir()]
        hint = f"; it holds the folders {', '.join(folders[:5])}" if folders else ""
        raise DataError(
            f"{folder}: holds no input (a file that ends in {', '.join(endings)}){hint}"
        )
    return kept
