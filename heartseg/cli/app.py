"""The ``heartseg`` command: parse, read the configuration, delegate to a pipeline."""

import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from typer.core import TyperGroup

from heartseg import __version__
from heartseg.cli.options import (
    ConfigFile,
    LogFile,
    OptionalConfigFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
)
from heartseg.errors import ConfigError, HeartsegError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class Commands(TyperGroup):
    """The commands, with the one place where errors become messages and exit codes."""

    def invoke(self, ctx: typer.Context) -> object:
        """Run a command; exit 1 with a message if the user can mend it, 130 if interrupted."""
        from heartseg.cli import console

        try:
            return super().invoke(ctx)
        except HeartsegError as error:
            console.fail(str(error))
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt as error:
            console.fail(_how_to_go_on(ctx.invoked_subcommand))
            raise typer.Exit(EXIT_INTERRUPTED) from error


def _how_to_go_on(command: str | None) -> str:
    if command == "train":
        return "interrupted; the same command with --resume goes on after the last finished epoch"
    return "interrupted; no file is half-written, and the same command does what is missing"


app = typer.Typer(
    name="heartseg",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Whole-heart segmentation of cardiovascular MR for congenital heart disease.",
)


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


@app.command()
def synth(
    output_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Where volumes go.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of phantom patients.")] = 12,
    size: Annotated[int, typer.Option(min=32, max=512, help="Voxels along the longest axis.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same volumes.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Make phantom hearts in the layout of HVSMR-2.0, to try everything without data."""
    from heartseg.cli import console

    console.configure(quiet=quiet, log_file=log_file)
    from heartseg.pipelines.synth import run_synth

    with console.progress("synth") as report:
        run_synth(
            output_dir, patients=patients, size=size, seed=seed, overwrite=overwrite, report=report
        )
    console.say(f"{patients} phantom patients in {output_dir}")


@app.command()
def prepare(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Cut the volumes into slices and colour masks, with a manifest of where each comes from."""
    from heartseg.cli import console

    console.configure(quiet=quiet, log_file=log_file)
    from heartseg.config.loading import load_config

    config = load_config(config_file, overrides or ())
    from heartseg.pipelines.prepare import run_prepare

    with console.progress("prepare") as report:
        result = run_prepare(config, overwrite=overwrite, report=report)
    console.say(
        f"{result.num_slices} slices of {result.num_cases} cases in {result.master_dir} "
        f"({result.num_written} written now)"
    )


@app.command()
def split(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Divide the slices into training, validation and test parts, by patient."""
    from heartseg.cli import console

    console.configure(quiet=quiet, log_file=log_file)
    from heartseg.config.loading import load_config

    config = load_config(config_file, overrides or ())
    from heartseg.pipelines.split import run_split

    with console.progress("split") as report:
        result = run_split(config, overwrite=overwrite, report=report)
    for fold, counts in enumerate(result.slices):
        name = f"fold {fold}: " if len(result.slices) > 1 else ""
        parts = ", ".join(f"{part} {count}" for part, count in counts.items())
        console.say(f"{name}{parts} slices in {result.dataset_dir}")


def main() -> None:
    """Run the command line."""
    # Before TensorFlow loads: its start-up notes are not for the terminal of a user.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    app()


if __name__ == "__main__":
    main()
