"""What surrounds a process, and may not change its results: settings of other programs, streams."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from heartseg.errors import ConfigError, HeartsegError

BACKENDS = ("tensorflow", "jax")
"""Backends of Keras that heartseg runs on."""


def shield_settings() -> None:
    """Keep the settings of other programs out of this process and its workers, before they load.

    ``~/.keras/keras.json`` of another project may ask for ``channels_first`` or ``float16``, and a
    notebook passes its own Matplotlib backend on to every program that it starts.
    """
    # A folder that cannot exist: Keras then reads and writes no settings.
    os.environ["KERAS_HOME"] = str(Path(os.devnull) / "keras")
    os.environ["MPLBACKEND"] = "agg"


def check_backend() -> None:
    """Make sure that Keras will use a backend that heartseg runs on.

    Raises:
        ConfigError: If ``KERAS_BACKEND`` names another one.
    """
    backend = os.environ.get("KERAS_BACKEND", "").strip()
    if backend and backend not in BACKENDS:
        raise ConfigError(
            f"KERAS_BACKEND is {backend}; heartseg runs on {' or '.join(BACKENDS)}. Unset the "
            "environment variable KERAS_BACKEND to use TensorFlow"
        )


def check_working_directory() -> None:
    """Make sure that the working directory still exists.

    Raises:
        HeartsegError: If it was deleted or moved away.
    """
    try:
        os.getcwd()  # noqa: PTH109 - only this asks the system
    except OSError as error:
        raise HeartsegError(
            f"the working directory does not exist any more ({error.strerror}); change to another "
            "folder and run the command again"
        ) from error


def open_missing_streams() -> None:
    """Give a process whose standard streams are closed others that go nowhere.

    Otherwise the next file that it opens would get the number of a stream, and be written into.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def flush_streams() -> str | None:
    """Write out what is buffered for stdout and stderr; return why, if that failed.

    A stream that failed goes nowhere from then on: Python would complain at exit once more.
    """
    reasons = [_flush(stream) for stream in (sys.stdout, sys.stderr)]
    return next((reason for reason in reasons if reason), None)


def _flush(stream: TextIO) -> str | None:
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return getattr(error, "strerror", None) or str(error)
    return None
