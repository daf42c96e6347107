"""What compiled libraries write to stderr by themselves: notes that no user of heartseg needs."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TextIO

from heartseg.errors import HeartsegError

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}
_STDERR = 2

_lock = threading.Lock()
_depth = 0
_hiding: "_Hiding | None" = None


def ask_for_errors_only() -> None:
    """Ask TensorFlow and gRPC to write errors only, before they load.

    What is set already stays as it is.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def show_on_stderr(notes: str) -> None:
    """Write notes where they would have been without ``native_notes_hidden``."""
    if sys.stderr is not None:
        sys.stderr.write(notes)


@contextmanager
def native_notes_hidden(show: Callable[[str], None] = show_on_stderr) -> Iterator[None]:
    """Keep what C++ code and worker processes write to stderr off the terminal.

    TensorFlow writes start-up notes there, whatever ``TF_CPP_MIN_LOG_LEVEL`` says
    (tensorflow/tensorflow#100442), and workers that are interrupted write tracebacks. What Python
    code of this process writes to ``sys.stderr`` still reaches it, unless it kept the stream from
    before the block. Blocks may be nested, and threads may have their own: the first one hides, the
    last one ends it.

    Args:
        show: Called with the notes if the block ends in an error that the user cannot fix.
    """
    _begin()
    try:
        yield
    except (HeartsegError, OSError, KeyboardInterrupt):
        raise
    except BaseException:
        notes = _take_notes()
        if notes:
            show(notes)
        raise
    finally:
        _end()


@dataclass(frozen=True)
class _Hiding:
    """Where stderr went.

    Attributes:
        notes: The file that takes its place.
        terminal: File descriptor of what it was.
        replaced: ``sys.stderr`` of before and of meanwhile, if it was replaced.
    """

    notes: IO[bytes]
    terminal: int
    replaced: tuple[TextIO, TextIO] | None


def _begin() -> None:
    global _depth, _hiding
    with _lock:
        if _depth == 0:
            _hiding = _hide()
        _depth += 1


def _end() -> None:
    global _depth, _hiding
    with _lock:
        _depth -= 1
        if _depth == 0 and _hiding is not None:
            _restore(_hiding)
            _hiding = None


def _hide() -> _Hiding | None:
    # Not at the top: `heartseg --help` hides nothing.
    import tempfile

    try:
        notes: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _restore
    except OSError:
        # The disk is full: notes are no reason to stop.
        return None
    try:
        terminal = os.dup(_STDERR)
    except OSError:
        # The process has no stderr.
        notes.close()
        return None
    replaced = None
    if _writes_to_stderr(sys.stderr):
        sys.stderr.flush()
        stream = os.fdopen(os.dup(terminal), "w", buffering=1, errors="backslashreplace")
        replaced = (sys.stderr, stream)
        sys.stderr = stream
    os.dup2(notes.fileno(), _STDERR)
    return _Hiding(notes, terminal, replaced)


def _restore(hiding: _Hiding) -> None:
    os.dup2(hiding.terminal, _STDERR)
    os.close(hiding.terminal)
    hiding.notes.close()
    if hiding.replaced is not None:
        before, meanwhile = hiding.replaced
        # Somebody else may have put another stream there since.
        if sys.stderr is meanwhile:
            sys.stderr = before
        meanwhile.close()


def _take_notes() -> str:
    """Return what was hidden so far, and forget it."""
    with _lock:
        if _hiding is None:
            return ""
        _hiding.notes.seek(0)
        notes = _hiding.notes.read().decode(errors="replace")
        _hiding.notes.seek(0)
        _hiding.notes.truncate()
        return notes


def _writes_to_stderr(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == _STDERR
    except (AttributeError, OSError, ValueError):
        # A notebook's stream, for example, is no file.
        return False
