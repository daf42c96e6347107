"""Files and folders: written so that none is ever half-written, listed in natural order."""

import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heartseg.errors import DataError

logger = logging.getLogger(__name__)

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


@contextmanager
def replacing_all(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a temporary path per file; they become the files if the block raises no error.

    All or none: if it does, the files stay as they were. A file that the block did not write is
    removed, since what an earlier call wrote does not belong to the others.

    Args:
        files: Files of one folder.

    Raises:
        DataError: If the folder cannot be written to or the disk is full.
    """
    folder = files[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder)
    except OSError as error:
        raise DataError(f"{files[0]}: cannot be written ({error.strerror})") from error
    with staging as name:
        temporary = [Path(name) / file.name for file in files]
        try:
            yield temporary
        except DataError as error:
            # Nobody knows the temporary folder.
            raise DataError(str(error).replace(name, str(folder))) from error
        for source, file in zip(temporary, files, strict=True):
            _put(source, file)


def _put(source: Path, file: Path) -> None:
    try:
        if source.is_file():
            source.replace(file)
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror})") from error


def remove_unfinished(folder: Path) -> None:
    """Remove what interrupted writers left in a folder, but not in its subfolders."""
    for entry in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


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


def check_distinct(results: Iterable[tuple[Path, Iterable[Path]]], *, advice: str) -> None:
    """Make sure that no result has the name of another one.

    Args:
        results: Each input, and the files that come of it, all in one folder.
        advice: What to do if two have the same name.

    Raises:
        DataError: If two have; some file systems do not tell capital letters from small ones.
    """
    sources: dict[str, Path] = {}
    for source, outputs in results:
        for output in outputs:
            key = output.name.casefold()
            if key in sources:
                raise DataError(
                    f"{source}: its result {output.name} would have the same name as a result of "
                    f"{sources[key]}; {advice}"
                )
            sources[key] = source


@contextmanager
def logging_once() -> Iterator[None]:
    """Log what is noticed of files only once within the block, though it lists a folder often.

    A block within another one is part of that. As a decorator it does the same per call.
    """
    if _logged.get() is not None:
        yield
        return
    token = _logged.set(set())
    try:
        yield
    finally:
        _logged.reset(token)


_logged: ContextVar[set[str] | None] = ContextVar("logged", default=None)
"""What was logged within the block of ``logging_once``; None outside of one."""


def log_notice(level: int, message: str) -> None:
    """Log what is noticed of files, unless the block of ``logging_once`` has logged it."""
    logged = _logged.get()
    if logged is None or message not in logged:
        logger.log(level, "%s", message)
    if logged is not None:
        logged.add(message)


def list_files(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Return the files of a folder whose names end in one of some endings, in natural order.

    Capital letters do not matter. Hidden files (such as the ``._*`` files that macOS adds on other
    disks) and files whose names are not UTF-8 are left out, and logged. A link to a file that is
    not there, and a folder in place of a file, are listed: reading them is an error that names
    them.

    Args:
        folder: The folder.
        endings: Endings in lower case, such as ``.nii.gz``.

    Raises:
        DataError: If the folder is missing, is not a folder, or must not be read.
    """
    named = [entry for entry in list_folder(folder) if entry.name.lower().endswith(tuple(endings))]
    hidden = [entry for entry in named if entry.name.startswith(".")]
    unnamed = [entry for entry in named if not is_readable_name(entry) and entry not in hidden]
    if hidden:
        names = ", ".join(map(printable_name, hidden))
        log_notice(logging.INFO, f"{folder}: skipped, since they are hidden files: {names}")
    if unnamed:
        names = ", ".join(map(printable_name, unnamed))
        log_notice(logging.WARNING, f"{folder}: skipped, since their names are not UTF-8: {names}")
    return [entry for entry in named if entry not in hidden and entry not in unnamed]


def is_readable_name(path: Path) -> bool:
    """Return whether the name of a path is valid UTF-8, so that reports can hold it."""
    return printable_name(path) == path.name


def printable_name(path: Path) -> str:
    """Return the name of a path with a mark in place of what is not UTF-8."""
    return path.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def require_file(file: Path) -> None:
    """Make sure that a file is there.

    Raises:
        DataError: If it is not, or is a link to one that is not.
    """
    if file.is_file():
        return
    if file.is_dir():
        raise DataError(f"{file}: expected a file, found a folder")
    if file.is_symlink():
        raise DataError(
            f"{file}: is a link to a file that is not there ({file.readlink()}); fetch it, for "
            "example with datalad get"
        )
    raise DataError(f"{file}: no such file")


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
    """Return a file's name without ``.nii``, ``.nii.gz`` (in any case) or any single suffix."""
    name = file.name[: -len(".gz")] if file.name.lower().endswith(".nii.gz") else file.name
    return Path(name).stem
