"""One process at a time in a folder."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from heartseg.errors import DataError

LOCK = "run.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs.

    The operating system holds the lock and lets it go when its owner ends, however it ends; the
    file that stays behind locks nothing and only names its last owner.

    Args:
        folder: Made if missing.

    Raises:
        DataError: If another process has it, or the folder cannot be written to.
    """
    file = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = file.open("a+b")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    with stream:
        try:
            _acquire(stream)
        except OSError as error:
            stream.seek(1)
            owner = stream.read(20).decode("ascii", "replace").strip() or "unknown"
            raise DataError(
                f"{folder}: another run (process {owner}) is at work here; wait for its end, or "
                "choose another run_dir"
            ) from error
        try:
            stream.truncate(0)
            # The first byte is what is locked: elsewhere the file stays readable on Windows.
            stream.write(f" {os.getpid()}\n".encode("ascii"))
            stream.flush()
            yield
        finally:
            _release(stream)


if sys.platform == "win32":
    import msvcrt

    def _acquire(stream: BinaryIO) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)

    def _release(stream: BinaryIO) -> None:
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(stream: BinaryIO) -> None:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(stream: BinaryIO) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
