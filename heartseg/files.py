"""Writing so that no half-written file is ever seen, and names in the order people expect."""

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
"""Unfinished files: an interrupted run leaves them behind, the next one removes them."""

MAX_DEFLATE_RATIO = 1032
"""Deflate, by which PNG and gzip pack, makes at most so many bytes of one."""

UNFINISHED = "UNFINISHED"
"""Marks a folder whose results are not whole yet."""


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``file``; it becomes ``file`` when the block ends well.

    The temporary name keeps the suffixes of ``file``, by which writers choose a format.

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
    """Remove what interrupted writers left in a folder (not in the folders below)."""
    for file in folder.glob(f"{TEMPORARY_PREFIX}*"):
        file.unlink(missing_ok=True)


def claim_folder(folder: Path, owned: Sequence[str], *, overwrite: bool) -> None:
    """Make sure that a command may fill a folder, and remove what it is to replace.

    Args:
        folder: The folder; made if missing.
        owned: Glob patterns, relative to the folder, of what the command writes. Only these are
            removed, and only with ``overwrite``.
        overwrite: Whether the user asked to replace what is there.

    Raises:
        DataError: If the folder holds something and ``overwrite`` is not set, or is no folder.
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
    """Remove a file, a link or a folder with all that it holds."""
    try:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{entry}: cannot be removed ({error.strerror})") from error


@contextmanager
def filling(folder: Path, owned: Sequence[str], *, overwrite: bool) -> Iterator[None]:
    """Claim a folder for results that are whole only when the block ends well.

    Until then a marker file says so; a run that finds the marker starts over without being asked
    to overwrite, since an interrupted run holds nothing that could be lost. Meanwhile the folder
    is locked.

    Args:
        folder: The folder; made if missing.
        owned: Glob patterns, relative to the folder, of what the command writes.
        overwrite: Whether the user asked to replace what is there.

    Raises:
        DataError: If the folder holds finished or foreign things and ``overwrite`` is not set, or
            another process fills it.
    """
    marker = folder / UNFINISHED
    with locked(folder):
        if not marker.is_file():
            claim_folder(folder, (), overwrite=overwrite)
            with replacing(marker) as temporary:
                temporary.write_text(
                    "This folder is being filled; a run that ended early starts over.\n"
                )
        claim_folder(folder, owned, overwrite=True)
        yield
        marker.unlink(missing_ok=True)


def list_folder(folder: Path, *, missing_ok: bool = False) -> list[Path]:
    """Return what a folder holds, in natural order.

    Args:
        folder: The folder.
        missing_ok: Whether a folder that is not there counts as empty.

    Raises:
        DataError: If it is missing, is no folder, or may not be read.
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
        DataError: If the file is missing or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected a JSON object")
    return content


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, readable for people too."""
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
