"""A process for one fold: ``python -m heartseg.study.worker CONFIG PARENT``.

Each fold has a process of its own: its memory is free when it ends, several can train side by side
on GPUs of their own, and what one leaves in TensorFlow cannot change the next. What it logs goes to
its standard output, one JSON object per line; it ends when its parent does.
"""

import json
import logging
import signal
import sys
from pathlib import Path

from heartseg.config.loading import load_config
from heartseg.errors import HeartsegError
from heartseg.native_notes import ask_for_errors_only
from heartseg.parallel import end_with
from heartseg.study.fold import run_fold
from heartseg.surroundings import shield_settings

PROBLEM = "problem"
"""Key of the message of an error that the user can fix."""


class _JsonLines(logging.Handler):
    """Send each record to the parent."""

    def emit(self, record: logging.LogRecord) -> None:
        send({"level": record.levelno, "text": record.getMessage()})


def send(message: dict[str, object]) -> None:
    """Write a message to the parent."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(config_file: str, parent: str) -> int:
    """Run the fold of a configuration; return the exit code."""
    end_with(int(parent))
    # Ctrl-C reaches the parent too, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    shield_settings()
    ask_for_errors_only()
    logger = logging.getLogger("heartseg")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_JsonLines())
    logging.captureWarnings(capture=True)
    try:
        run_fold(load_config(Path(config_file)))
    except HeartsegError as error:
        send({PROBLEM: str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
