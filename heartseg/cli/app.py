"""The ``heartseg`` program: its commands, and how it ends after an error or an interruption.

Modules that take long to import are imported only when they are needed, so that ``heartseg --help``
and a mistake in a configuration are answered at once.
"""

import errno
import gc
import signal
import sys
import threading
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from heartseg import __version__
from heartseg.cli import data_commands, model_commands
from heartseg.cli.config_command import config
from heartseg.cli.dataset_command import dataset
from heartseg.cli.evaluate_command import evaluate
from heartseg.cli.export_command import export
from heartseg.cli.infer_command import infer
from heartseg.cli.refine_command import refine, suggest
from heartseg.cli.study_command import study
from heartseg.cli.surfaces_command import surfaces
from heartseg.cli.view_command import view
from heartseg.errors import HeartsegError
from heartseg.native_notes import ask_for_errors_only
from heartseg.surroundings import (
    check_working_directory,
    flush_streams,
    open_missing_streams,
    shield_settings,
)

PATIENCE_S = 1.5
"""Seconds that an interrupted command has to end by itself."""
OBJECTS_PER_COLLECTION = 10_000
"""Loading modules creates objects and no garbage. At Python's default of 700, searching for garbage
costs a command that needs TensorFlow half a second or more."""
OUTPUT_ERRORS = {
    getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EBADF")
}
"""Errors of the system for a stdout that cannot be written: a full disk, a closed descriptor."""
OPTIONAL_BACKENDS = ("jax",)

_leaving = threading.Event()


class Commands(TyperGroup):
    """The commands. Only here errors become messages and exit codes."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - Typer does not export the type
        """Run a command. Exit with 1 and a message if the user can fix it, 130 if interrupted."""
        from heartseg.cli import console

        try:
            check_working_directory()
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # The reader of the output has ended, as `head` does: no message can reach it.
            flush_streams()
            raise typer.Exit(console.EXIT_FAILED) from error
        except KeyboardInterrupt:
            advice = _how_to_continue(ctx.invoked_subcommand)
            console.leave_at_once(advice, console.EXIT_INTERRUPTED)
        except (HeartsegError, OSError, ModuleNotFoundError) as error:
            message = _explain(error)
            if message is None:
                raise
            console.fail(message)
            raise typer.Exit(console.EXIT_FAILED) from error


def _explain(error: HeartsegError | OSError | ModuleNotFoundError) -> str | None:
    """Return the message of an error that the user can fix; None for a bug."""
    if isinstance(error, HeartsegError):
        return str(error)
    if isinstance(error, OSError):
        # The system refuses to do something with a file and gives the reason.
        if error.filename is not None:
            return f"{error.filename}: {error.strerror}"
        # Without a file it is the output itself: see main().
        return None
    if error.name in OPTIONAL_BACKENDS:
        return (
            f"KERAS_BACKEND is {error.name}, which is not installed; run `pip install "
            f"'heartseg[{error.name}]'`, or unset KERAS_BACKEND to use TensorFlow"
        )
    return None


def _how_to_continue(command: str | None) -> str:
    if command == "train":
        return "interrupted; the same command with --resume continues after the last finished epoch"
    if command == "refine":
        return "interrupted; no file is incomplete, and the same command goes on where this ended"
    return "interrupted; no file is incomplete, and the same command does what is missing"


app = typer.Typer(
    name="heartseg",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# In the order in which the help lists them.
for command in (
    data_commands.synth,
    data_commands.prepare,
    data_commands.split,
    model_commands.train,
    evaluate,
    study,
    infer,
    refine,
    suggest,
    data_commands.colorize,
    surfaces,
    view,
    export,
    config,
    model_commands.inspect,
    model_commands.info,
):
    app.command()(command)
app.add_typer(dataset, name="dataset")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heartseg {__version__}")
        raise typer.Exit


@app.callback()
def describe(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print version."),
    ] = False,
) -> None:
    """Whole-heart segmentation of cardiovascular MR for congenital heart disease."""


def main() -> None:
    """Run the command line."""
    open_missing_streams()
    shield_settings()
    ask_for_errors_only()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except OSError as error:
        if error.filename is not None or error.errno not in OUTPUT_ERRORS:
            raise
        _fail_to_write(error.strerror)
    finally:
        _end_streams()
        # At exit Python searches for garbage once more: a second, with TensorFlow loaded.
        gc.freeze()


def _fail_to_write(reason: str | None) -> NoReturn:
    """End with a message on stderr, since stdout cannot take one."""
    from heartseg.cli import console

    console.fail(f"the output cannot be written ({reason})")
    flush_streams()
    sys.exit(console.EXIT_FAILED)


def _end_streams() -> None:
    """Make the exit code say so, if the last of the output could not be written."""
    reason = flush_streams()
    ending = sys.exc_info()[1]
    if reason and isinstance(ending, SystemExit) and not ending.code:
        _fail_to_write(reason)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """End soon after Ctrl-C, and at once after a second one.

    Python code is interrupted as usual. But an exception that is raised while C++ code calls back
    may be lost, and TensorFlow's threads take seconds to end. Every file is complete at any moment,
    so the process can be left then.
    """
    from heartseg.cli import console

    command = next((name for name in sys.argv[1:] if not name.startswith("-")), None)
    ending = (_how_to_continue(command), console.EXIT_INTERRUPTED)
    if _leaving.is_set():
        console.leave_at_once(*ending)
    _leaving.set()
    timer = threading.Timer(PATIENCE_S, console.leave_at_once, ending)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt
