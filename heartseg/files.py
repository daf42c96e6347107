"""Files and folders: written so that none is ever half-written, listed in natural order."""

import json
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heartseg.errors import DataError
from heartseg.lock import LOCK, locked

TEMPORARY_PREFIX = ".heartseg-"
"""Prefix of unfinished files; an interrupted run leaves them behind, the next one removes them."""

MAX_DEFLATE_RATIO = 1032
"""Deflate, which PNG and gzip use, expands one byte to at most this many."""

UNFINISHED = "UNFINISHED"
"""Name of the file that marks a folder with incomplete results."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``file``; it becomes ``file`` if the block raises no error.

    The temporary name keeps the suffixes of ``file``, because writers choose a format by them.

    Raises:
        DataError: If the folder cannot be written to or the disk is full.
    """
    temporary = file.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror})") from error
    try:
        yield temporary
        temporary.replace(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what interrupted writers left in a folder, but not in its subfolders."""
    for file in folder.glob(f"{TEMPORARY_PREFIX}*"):
        file.unlink(missing_ok=True)


def claim_folder(folder: Path, owned: Sequence[str], *, overwrite: bool) -> None:
    """Make sure that a command may fill a folder, and remove the results that it will replace.

    Args:
        folder: The folder; created if missing.
        owned: Glob patterns, relative to the folder, of what the command writes. Nothing else is
            removed.
        overwrite: Whether the user asked to replace earlier results.

    Raises:
        DataError: If the folder is not empty and ``overwrite`` is not set, or is not a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)
        held = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
    except OSError as error:
        raise DataError(f"{folder}: cannot be used as a folder ({error.strerror})") from error
    if held and not overwrite:
        raise DataError(
            f"{folder}: already holds {held[0]}{' and more' if len(held) > 1 else ''}; "
            "pass --overwrite to replace earlier results, or choose another folder"
        )
    for pattern in owned:
        for entry in folder.glob(pattern):
            _remove(entry)


def _remove(entry: Path) -> None:
    """Remove a file, a link, or a folder with everything in it."""
    try:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{entry}: cannot be removed ({error.strerror})") from error


@contextmanager
def filling(folder: Path, owned: Sequence[str], *, overwrite: bool) -> Iterator[None]:
    """Claim a folder for results that are complete only when the block ends without an error.

    Until then the folder is locked and holds a marker file. A run that finds the marker starts
    over even without ``overwrite``, because incomplete results are not worth keeping.

    Args:
        folder: The folder; created if missing.
        owned: Glob patterns, relative to the folder, of what the command writes.
        overwrite: Whether the user asked to replace earlier results.

    Raises:
        DataError: If the folder holds complete results or other files and ``overwrite`` is not
            set, or if another process is filling it.
    """
    marker = folder / UNFINISHED
    with locked(folder):
        if not marker.is_file():
            claim_folder(folder, (), overwrite=overwrite)
            with replacing(marker) as temporary:
                temporary.write_text(
                    "The results in this folder are incomplete. Run the command again: it starts "
                    "over.\n"
                )
        claim_folder(folder, owned, overwrite=True)
        yield
        marker.unlink(missing_ok=True)


def list_folder(folder: Path, *, missing_ok: bool = False) -> list[Path]:
    """Return the entries of a folder in natural order.

    Args:
        folder: The folder.
        missing_ok: Whether a missing folder counts as empty.

    Raises:
        DataError: If it is missing, is not a folder, or must not be read.
    """
    try:
        return sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        if missing_ok and isinstance(error, FileNotFoundError):
            return []
        raise DataError(f"{folder}: cannot be read as a folder ({error.strerror})") from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: If the file is missing or does not hold a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        found = type(content).__name__
        raise DataError(f"{file}: expected a JSON object, found a value of type {found}")
    return content


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, indented so that people can read it."""
    with replacing(file) as temporary:
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key by which ``pat2`` comes before ``pat10``."""
    return tuple(
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    )


def image_stem(file: Path) -> str:
    """Return a file's name without ``.nii``, ``.nii.gz`` or any single suffix."""
    name = file.name.removesuffix(".gz") if file.name.endswith(".nii.gz") else file.name
    return Path(name).stem
