"""The files of a DICOM folder or archive, opened one by one and never unpacked to disk.

Messages count files and do not name them: scanners and archives name files by identifiers.
"""

import io
import os
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Protocol

from heartseg.errors import DataError
from heartseg.files import natural_key
from heartseg.scans.optional import import_dicom_library
from heartseg.scans.volume import MAX_BYTES

MAX_FILES = 20_000
"""A folder or archive with more files is refused: a long examination has some thousands."""
MAX_FILE_BYTES = MAX_BYTES + 2**26
"""A larger file is refused: it holds more voxels than are read, even beside a large header."""
MAX_ARCHIVE_BYTES = 2**32
"""An archive whose files are larger together is refused: a small one may claim to hold anything."""
_MAGIC, _MAGIC_OFFSET = b"DICM", 128
_START = _MAGIC_OFFSET + len(_MAGIC)
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
"""How old files without the magic word start: with group 2 or 8, in little endian."""
_META_GROUP, _TRANSFER_SYNTAX = 2, 0x00020010
_DEFLATED = "1.2.840.10008.1.2.1.99"

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    sqlite3.Error,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)


@cache
def unreadable() -> tuple[type[Exception], ...]:
    """Return what pydicom, highdicom and their decoders raise on broken files.

    The texts of these errors may quote a header, so that no message repeats them.
    """
    errors = import_dicom_library("pydicom.errors")
    return (*_UNREADABLE, errors.InvalidDicomError, errors.BytesLengthException)


class Container(Protocol):
    """A folder, an archive or a single file that holds DICOM files."""

    @property
    def names(self) -> Sequence[str]:
        """The files' names in natural order."""

    def open(self, name: str) -> IO[bytes]:
        """Open one of them; it can be sought in."""


class _Folder:
    """Every file below a folder; what starts with a dot and links to folders are left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names: list[str] = []
        for base, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = [Path(base, name) for name in files if not name.startswith(".")]
            names += [path.relative_to(folder).as_posix() for path in paths if path.is_file()]
            _check_number(len(names), folder)
        self.names = sorted(names, key=natural_key)

    def open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("rb")


class _SingleFile:
    def __init__(self, file: Path) -> None:
        self._file = file
        self.names = [file.name]

    def open(self, _name: str) -> IO[bytes]:
        return self._file.open("rb")


class _Archive:
    """The files of a ``.zip``, whose names are never used as paths."""

    def __init__(self, archive: zipfile.ZipFile, file: Path) -> None:
        self._archive = archive
        _check_number(len(archive.infolist()), file)
        # Of two members with the same name the later one counts, as for every unpacker.
        self._members = {e.filename: e for e in archive.infolist() if not e.is_dir()}
        if sum(entry.file_size for entry in self._members.values()) > MAX_ARCHIVE_BYTES:
            raise DataError(
                f"{file}: its files claim more than {MAX_ARCHIVE_BYTES / 2**30:.0f} GiB together; "
                "unpack the wanted series and name its folder"
            )
        if any(entry.flag_bits & 1 for entry in self._members.values()):
            raise DataError(f"{file}: is encrypted; unpack it and name the folder")
        self.names = sorted(self._members, key=natural_key)

    def open(self, name: str) -> IO[bytes]:
        if self._members[name].file_size > MAX_FILE_BYTES:
            raise OSError("too large")
        with self._archive.open(self._members[name]) as content:
            start = content.read(_START)
            # What is no DICOM file need not be unpacked whole.
            rest = content.read() if looks_like_dicom(start) else b""
        return io.BytesIO(start + rest)


@contextmanager
def open_container(path: Path) -> Iterator[Container]:
    """Open a folder, a ``.zip`` or a single DICOM file.

    Raises:
        DataError: If it is missing, cannot be read, or claims unexpectedly many or large files.
    """
    if path.is_dir():
        yield _Folder(path)
    elif not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    elif path.suffix.lower() != ".zip":
        yield _SingleFile(path)
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(f"{path}: not a readable .zip archive") from error
        with archive:
            yield _Archive(archive, path)


def looks_like_dicom(start: bytes) -> bool:
    """Tell by its first 132 bytes whether a file is meant to be DICOM."""
    magic = start[_MAGIC_OFFSET : _MAGIC_OFFSET + len(_MAGIC)]
    # Without the magic word: a first element of group 2 or 8 whose number is small.
    bare = start[:2] in _FIRST_GROUPS and start[3:4] == b"\x00" and len(start) > _MAGIC_OFFSET
    return magic == _MAGIC or bare


def has_magic(path: Path) -> bool:
    """Tell whether a path is a file that starts as every DICOM file of today."""
    start = _read_start(path)
    return start.endswith(_MAGIC) and len(start) == _START


def holds_dicom(folder: Path, *, below: bool = True, ignored: Sequence[str] = ()) -> bool:
    """Tell whether a DICOM file lies in a folder, among the first ``MAX_FILES`` files.

    Args:
        folder: The folder.
        below: Whether its subfolders count too.
        ignored: How the names of files end, in small letters, that are of another format.
    """
    seen = 0
    for base, folders, files in os.walk(folder):
        if not below:
            folders.clear()
        for name in files:
            seen += 1
            if seen > MAX_FILES:
                return False
            if name.startswith(".") or name.lower().endswith(tuple(ignored)):
                continue
            if looks_like_dicom(_read_start(Path(base, name))):
                return True
    return False


def archives_dicom(file: Path) -> bool:
    """Tell whether a ``.zip`` holds a DICOM file; one that cannot be read may, and counts."""
    try:
        with open_container(file) as container:
            return any(looks_like_dicom(_start_of(container, name)) for name in container.names)
    except DataError:
        return True


def _start_of(container: Container, name: str) -> bytes:
    try:
        with container.open(name) as stream:
            return stream.read(_START)
    except _UNREADABLE:
        return b""


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file; none if it is no file that can be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            return stream.read(_START)
    except OSError:
        return b""


def read_dataset(stream: IO[bytes], *, tags: Sequence[str | int] | None = None) -> Any:  # noqa: ANN401
    """Read the header of a DICOM file, without its voxels.

    Args:
        stream: The open file.
        tags: Keywords or numbers of the attributes that are wanted; None: all.

    Returns:
        The pydicom data set; None if the file is not meant to be DICOM.

    Raises:
        One of ``unreadable()`` if it is broken, or too large.
    """
    pydicom = import_dicom_library()
    start = stream.read(_START)
    if not looks_like_dicom(start):
        return None
    if stream.seek(0, os.SEEK_END) > MAX_FILE_BYTES:
        raise ValueError("too large")
    is_marked = start.endswith(_MAGIC)
    if is_marked and _transfer_syntax(stream) == _DEFLATED:
        # pydicom unpacks such a file whole, and one of 1 MB may hold 1 GB.
        raise ValueError("deflated")
    stream.seek(0)
    return pydicom.dcmread(
        stream,
        stop_before_pixels=True,
        force=not is_marked,
        specific_tags=None if tags is None else list(tags),
    )


def _transfer_syntax(stream: IO[bytes]) -> str:
    """Return how a file with the magic word is encoded."""
    filereader = import_dicom_library("pydicom.filereader")
    stream.seek(_START)
    meta = filereader.read_dataset(
        stream,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP,
    )
    return str(meta[_TRANSFER_SYNTAX].value) if _TRANSFER_SYNTAX in meta else ""


def _check_number(count: int, path: Path) -> None:
    if count > MAX_FILES:
        raise DataError(
            f"{path}: holds more than {MAX_FILES} files; name the folder of one series instead"
        )
