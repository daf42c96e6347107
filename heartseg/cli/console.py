"""The terminal and the log file: results on stdout; progress, warnings and errors on stderr."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from heartseg.errors import DataError
from heartseg.native_notes import native_notes_hidden
from heartseg.progress import Report, silent

if TYPE_CHECKING:
    from heartseg.training.callbacks import TrainingProgress

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
BAR_WIDTH = 20
"""Leaves half of a terminal of 80 columns to the name of the current item."""
_LOG_EVERY_S = 5.0
SHOWN_LOGS = ("loss", "dice_mean", "dice_coef_multiclass", "accuracy")

# A file or pipe has no width; 120 columns are enough for every table.
_WIDTH = None if sys.stdout.isatty() else 120
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)
logger = logging.getLogger("heartseg")


class _PlainLines(logging.Handler):
    """One line per notice, however long; warnings begin with ``Warning:``."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.capitalize()}: "
        # Through the console, which uses the current stderr: `native_notes_hidden` replaces it.
        err.print(f"{level}{self.format(record)}", markup=False)


class _LogFile(logging.FileHandler):
    """The file of --log-file. A full disk ends the log, not the command."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        # Only once, since every further line would fail too.
        logger.removeHandler(self)
        logger.warning(
            "%s: cannot be written (%s); the log ends here", self.baseFilename, sys.exc_info()[1]
        )


def configure(*, quiet: bool, log_file: Path | None) -> None:
    """Send notices to stderr, and all messages to a file if one is named.

    Raises:
        DataError: If the log file cannot be written.
    """
    # The handlers of an earlier command in this process write to streams that may be closed.
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.propagate = False
    out.quiet = quiet
    terminal = (
        RichHandler(console=err, show_time=False, show_path=False)
        if err.is_terminal
        else _PlainLines()
    )
    terminal.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(terminal)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    if log_file is not None:
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            stream = _LogFile(log_file, encoding="utf-8")
        except OSError as error:
            raise DataError(f"{log_file}: cannot be written ({error.strerror})") from error
        stream.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(stream)


def leave_at_once(text: str, code: int) -> NoReturn:
    """Print a message, restore the terminal and end the process, whatever its threads do."""
    err.show_cursor(show=True)
    fail(text)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def say(text: str) -> None:
    """Print a result, and keep it in the log file."""
    out.print(text, markup=False)
    log_only(text)


def show_markdown(text: str) -> None:
    """Print Markdown: set like a page on a terminal, and as it is into a file or pipe."""
    if not out.is_terminal or not out.encoding.startswith("utf"):
        out.print(text, markup=False)
        return
    # Pictures cannot be seen there.
    text = "\n".join(line for line in text.splitlines() if not line.startswith("!["))
    # Not above: only one command needs it, and it takes a tenth of a second to load.
    from rich.markdown import Markdown

    # Addresses in words: not every terminal opens links.
    out.print(Markdown(text, hyperlinks=False), soft_wrap=False)


def fail(text: str) -> None:
    """Print an error that the user can fix, and keep it in the log file."""
    err.print(f"[bold red]Error:[/] {escape(text)}")
    log_only(text, logging.ERROR)


def show_notes(notes: str) -> None:
    """Show what ``native_notes_hidden`` hid, before the traceback of a bug."""
    err.print(notes, markup=False)


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Yield a progress callable: a bar on a terminal, a plain line now and then in a log."""
    with native_notes_hidden(show_notes):
        if out.quiet:
            yield silent
        elif not err.is_terminal:
            yield _plain_report(what)
        else:
            with _bar(what) as report:
                yield report


@contextmanager
def _bar(what: str) -> Iterator[Report]:
    with Progress(*_columns("item"), console=err, transient=True, expand=True) as bar:
        task = bar.add_task(what, total=None, item="")

        def report(done: int, total: int, item: str) -> None:
            bar.update(task, completed=done, total=total or None, item=item)

        yield report


def _columns(field: str) -> tuple[ProgressColumn, ...]:
    """Return name, bar, counter and time left; a text field, cut to size, fills the line."""
    return (
        TextColumn("{task.description}"),
        BarColumn(BAR_WIDTH),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn(
            f"{{task.fields[{field}]}}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )


@contextmanager
def training() -> "Iterator[tuple[Callable[[TrainingProgress], None], Report]]":
    """Yield the progress callables of training and of reading: bars, or one line per epoch."""
    logger.info("loading TensorFlow")
    with native_notes_hidden(show_notes):
        if out.quiet or not err.is_terminal:
            report = silent if out.quiet else _plain_report("reading")
            yield (
                lambda progress: _log_epoch(progress) if progress.is_epoch_end else None,
                report,
            )
        else:
            with _training_bars() as shown:
                yield shown


@contextmanager
def _training_bars() -> "Iterator[tuple[Callable[[TrainingProgress], None], Report]]":
    with Progress(*_columns("logs"), console=err, transient=True, expand=True) as bar:
        whole = bar.add_task("epochs", total=None, logs="")
        epoch = bar.add_task("steps", total=None, logs="")

        def report(done: int, total: int, item: str) -> None:
            bar.update(epoch, completed=done, total=total, description="reading", logs=item)

        def track(progress: "TrainingProgress") -> None:
            finished = progress.epoch - 1 + progress.step / max(progress.steps, 1)
            bar.update(whole, completed=round(finished, 2), total=progress.epochs)
            bar.update(
                epoch,
                completed=progress.step,
                total=progress.steps,
                description=f"epoch {progress.epoch}",
                logs=_format_logs(progress),
            )
            if progress.is_epoch_end:
                _log_epoch(progress)

        yield track, report


def _log_epoch(progress: "TrainingProgress") -> None:
    logger.info(
        "epoch %d/%d: %s, %.1f s",
        progress.epoch,
        progress.epochs,
        _format_logs(progress),
        progress.seconds,
    )


def _format_logs(progress: "TrainingProgress") -> str:
    # The Dice of each structure would make the line too long; it is in the tables.
    shown = [name for log in SHOWN_LOGS for name in (log, f"val_{log}") if name in progress.logs]
    values = [f"{name} {progress.logs[name]:.4g}" for name in shown]
    return ", ".join([*values, f"learning rate {progress.learning_rate:.3g}"])


def _plain_report(what: str) -> Report:
    # The first line is printed at once, to show that work has begun.
    last = -_LOG_EVERY_S

    def report(done: int, total: int, item: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= _LOG_EVERY_S:
            last = now
            count = f"{done} of {total} ({item})" if total else item
            logger.info("%s: %s", what, count)

    return report


def log_only(text: str, level: int = logging.INFO) -> None:
    """Write a text to the log file only, if there is one."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logger.makeRecord(logger.name, level, "", 0, text, (), None))
