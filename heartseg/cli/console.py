"""What the terminal shows: results on stdout; progress, warnings and errors on stderr."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from heartseg.progress import Report, silent

_LOG_EVERY_S = 5.0

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
logger = logging.getLogger("heartseg")


def configure(*, quiet: bool, log_file: Path | None) -> None:
    """Send notices to stderr, and all of them to a file if one is named."""
    # Handlers of an earlier command in this process write to streams that may be closed.
    logger.handlers.clear()
    logger.propagate = False
    out.quiet = quiet
    handler: logging.Handler = logging.StreamHandler()
    if err.is_terminal:
        handler = RichHandler(console=err, show_time=False, show_path=False)
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        stream = logging.FileHandler(log_file, encoding="utf-8")
        stream.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(stream)


def say(text: str) -> None:
    """Print one line of result, and keep it in the log file."""
    out.print(text, markup=False)
    _to_file(logging.INFO, text)


def fail(text: str) -> None:
    """Print what the user must mend, and keep it in the log file."""
    err.print(f"[bold red]Error:[/] {escape(text)}")
    _to_file(logging.ERROR, text)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of results; numbers stand right."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    out.print(table)
    for row in (columns, *rows):
        _to_file(logging.INFO, "  ".join(row))


@contextmanager
def progress(what: str) -> Iterator[Report]:
    """Yield a progress callable: a bar on a terminal, a plain line now and then in a log."""
    if out.quiet:
        yield silent
        return
    if not err.is_terminal:
        yield _plain_report(what)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[item]}", markup=False),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, item="")

        def report(done: int, total: int, item: str) -> None:
            bar.update(task, completed=done, total=total, item=item)

        yield report


def _plain_report(what: str) -> Report:
    last = time.monotonic()

    def report(done: int, total: int, item: str) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= _LOG_EVERY_S:
            last = now
            logger.info("%s: %d of %d (%s)", what, done, total, item)

    return report


def _to_file(level: int, text: str) -> None:
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(logger.makeRecord(logger.name, level, "", 0, text, (), None))
