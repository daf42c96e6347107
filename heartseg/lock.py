"""One process at a time in a folder."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from heartseg.errors import DataError

logger = logging.getLogger(__name__)

LOCK = "run.lock"
_ATTEMPTS = 100
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    A folder that was created for the block, and is empty after it, is removed again.

    The operating system holds the lock and releases it when its owner ends, even if it is killed.
    The file that a killed owner leaves behind locks nothing; the next owner reuses it.

    Args:
        folder: The folder; created if missing.

    Raises:
        DataError: If another process holds the lock, or the folder cannot be written to.
    """
    file = folder / LOCK
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    with _take(file) as stream:
        try:
            # Other processes report the owner. If the disk is full, they can do without it.
            with suppress(OSError):
                stream.truncate(0)
                # Only the first byte is locked: Windows lets others read the rest.
                stream.write(f" {os.getpid()}\n".encode("ascii"))
            yield
        finally:
            # Removed before it is released, so that no other process can lock a file that is about
            # to disappear. Windows does not remove open files.
            with suppress(OSError):
                file.unlink()
            # A file system without locks has none to release: closing the file is enough.
            with suppress(OSError):
                _release(stream)
            # A block that wrote nothing leaves nothing: folders that were made for it go as well.
            with suppress(OSError):
                for made in missing:
                    made.rmdir()


def _take(file: Path) -> IO[bytes]:
    """Open and lock a file, and make sure that the locked file still exists."""
    attempts = 0
    while True:
        attempts += 1
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = file.open("a+b", buffering=0)
        except OSError as error:
            # Its last owner may have removed the folder that was empty, after it was made here.
            if isinstance(error, FileNotFoundError) and attempts < _ATTEMPTS:
                continue
            raise DataError(f"{file.parent}: cannot be written ({error.strerror})") from error
        try:
            _acquire(stream)
        except OSError as error:
            if error.errno in _TAKEN:
                with stream:
                    raise DataError(_describe_owner(stream, file.parent)) from error
            logger.warning(
                "%s: the file system does not support locks (%s); do not start another run in this "
                "folder meanwhile",
                file.parent,
                error.strerror,
            )
        # Its last owner may have removed it after it was opened and before it was locked.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), file.stat()):
                return stream
        stream.close()


def _describe_owner(stream: IO[bytes], folder: Path) -> str:
    stream.seek(1)
    owner = stream.read(20).decode("ascii", "replace").strip() or "unknown"
    return (
        f"{folder}: another run (process {owner}) is using this folder; wait until it ends, or "
        "choose another folder"
    )


if sys.platform == "win32":
    import msvcrt

    def _acquire(stream: IO[bytes]) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)

    def _release(stream: IO[bytes]) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(stream: IO[bytes]) -> None:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(stream: IO[bytes]) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
