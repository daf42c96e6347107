"""What the terminal shows: results on stdout; progress, warnings and errors on stderr."""

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from heartseg.errors import DataError
from heartseg.native_notes import native_notes_hidden
from heartseg.progress import Report, silent

if TYPE_CHECKING:
    from heartseg.evaluation.comparison import Comparison
    from heartseg.training.callbacks import TrainingProgress

_LOG_EVERY_S = 5.0
SHOWN_LOGS = ("loss", "dice_mean", "dice_coef_multiclass", "accuracy")

# A file or pipe has no width: wide enough that no column of a table is cut.
_WIDTH = None if sys.stdout.isatty() else 120
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)
logger = logging.getLogger("heartseg")


class _PlainLines(logging.Handler):
    """One line a notice, as wide as it is; a warning says that it is one."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.capitalize()}: "
        # The console finds the stderr of the moment, which hidden notes exchange for a while.
        err.print(f"{level}{self.format(record)}", markup=False)


class _LogFile(logging.FileHandler):
    """The file of --log-file; a disk that is full costs the log, not the command."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        # Once: each further line would fail alike.
        logger.removeHandler(self)
        logger.warning("%s: cannot be written any more (%s)", self.baseFilename, sys.exc_info()[1])


def configure(*, quiet: bool, log_file: Path | None) -> None:
    """Send notices to stderr, and all of them to a file if one is named.

    Raises:
        DataError: If the log file cannot be written.
    """
    # Those of an earlier command in this process write to streams that may be closed.
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
    """End the process now, with a message and a clean terminal, whatever its threads do."""
    err.show_cursor(show=True)
    fail(text)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def say(text: str) -> None:
    """Print one line of result, and keep it in the log file."""
    out.print(text, markup=False)
    _to_file(logging.INFO, text)


def fail(text: str) -> None:
    """Print what the user must mend, and keep it in the log file."""
    err.print(f"[bold red]Error:[/] {escape(text)}")
    _to_file(logging.ERROR, text)


def show_notes(notes: str) -> None:
    """Show what ``native_notes_hidden`` hid, before the traceback of a bug."""
    err.print(notes, markup=False)


def show_scores(summary: Mapping[str, Any], output_dir: Path) -> None:
    """Print the table of an evaluation, and where its files are."""
    for scope, scores in summary["scopes"].items():
        rows = [
            (name, str(entry["n"]), str(entry["absent"]), *_figures(entry))
            for name, entry in scores["structures"].items()
        ]
        rows.append(("macro average", str(summary["num_cases"]), "", *_figures(scores["macro"])))
        show_table(
            f"Means over {summary['num_cases']} cases, scope {scope}",
            ("structure", "n", "absent", "Dice", "95 % interval", "HD95 mm", "ASSD mm"),
            rows,
        )
    say(f"tables and report in {output_dir}")


def show_comparison(comparison: "Comparison") -> None:
    """Print the tests of two runs: Dice, each scope."""
    for scope in dict.fromkeys(row.scope for row in comparison.rows):
        rows = [
            (
                row.structure,
                str(row.test.n),
                _number(row.test.mean_a, 3),
                _number(row.test.mean_b, 3),
                f"{_number(row.test.ci95_low, 3)} to {_number(row.test.ci95_high, 3)}",
                _number(row.test.p_holm, 4),
                _number(row.test.effect_size, 2),
                row.better or "-",
            )
            for row in comparison.rows
            if row.scope == scope and row.measure == "dice"
        ]
        show_table(
            f"Dice over {len(comparison.cases)} cases that both runs scored, scope {scope}",
            ("structure", "n", "A", "B", "B - A, 95 %", "p (Holm)", "effect", "better"),
            rows,
        )


def _figures(entry: Mapping[str, Mapping[str, float | None]]) -> tuple[str, ...]:
    """Format the means of a row; a dash where there is nothing to tell."""
    dice, hd95, assd = entry["dice"], entry["hd95_mm"], entry["assd_mm"]
    low, high = (_number(dice[end], 2) for end in ("ci95_low", "ci95_high"))
    return (
        _number(dice["mean"], 3),
        "-" if low == "-" else f"{low} to {high}",
        _number(hd95["mean"], 1),
        _number(assd["mean"], 1),
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of results; numbers stand right."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    out.print(table)
    for row in (columns, *rows):
        _to_file(logging.INFO, "  ".join(row))


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


@contextmanager
def training() -> "Iterator[tuple[Callable[[TrainingProgress], None], Report]]":
    """Yield what is told of training, a live line of steps and a line an epoch, and of reading."""
    logger.info("loading TensorFlow")
    with native_notes_hidden(show_notes):
        if out.quiet or not err.is_terminal:
            report = silent if out.quiet else _plain_report("reading")
            yield (
                lambda progress: _tell_epoch(progress) if progress.is_epoch_end else None,
                report,
            )
        else:
            with _training_bars() as shown:
                yield shown


@contextmanager
def _training_bars() -> "Iterator[tuple[Callable[[TrainingProgress], None], Report]]":
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[logs]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
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
                _tell_epoch(progress)

        yield track, report


def _tell_epoch(progress: "TrainingProgress") -> None:
    logger.info(
        "epoch %d/%d: %s, %.1f s",
        progress.epoch,
        progress.epochs,
        _format_logs(progress),
        progress.seconds,
    )


def _format_logs(progress: "TrainingProgress") -> str:
    # The Dice of each structure would make the line unreadable; it stands in the tables.
    shown = [name for log in SHOWN_LOGS for name in (log, f"val_{log}") if name in progress.logs]
    values = [f"{name} {progress.logs[name]:.4g}" for name in shown]
    return ", ".join([*values, f"learning rate {progress.learning_rate:.3g}"])


def _plain_report(what: str) -> Report:
    # The first line comes at once: it tells that work has begun.
    last = -_LOG_EVERY_S

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
