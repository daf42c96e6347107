"""The commands that train and describe a model.

Modules that take long to import are imported inside a command, after its configuration is known to
be valid.
"""

from typing import Annotated, Optional

import typer

from heartseg.cli.options import (
    ConfigFile,
    Device,
    LogFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
    Threads,
    begin,
    join_settings,
)
from heartseg.errors import HeartsegError
from heartseg.native_notes import native_notes_hidden


def train(
    config_file: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue after the last finished epoch.")
    ] = False,
    init: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="packaged|FILE",
            help="Start from the packaged weights or those of a .keras file; sets train.init.",
        ),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Fit the network to the training part of the split and keep the best checkpoint."""
    settings = join_settings(
        overrides,
        {
            "--init": ("train.init", init),
            "--device": ("parallel.device", device),
            "--threads": ("parallel.threads", threads),
        },
    )
    config = begin(config_file, settings, quiet, log_file)
    from heartseg.cli import console

    with console.training() as (track, report):
        from heartseg.pipelines.train import run_training

        try:
            result = run_training(
                config, resume=resume, overwrite=overwrite, track=track, report=report
            )
        except HeartsegError as error:
            if config.parallel.num_processes == 1:
                raise
            # At a normal exit JAX would wait one or two minutes for processes that are lost.
            console.leave_at_once(str(error), console.EXIT_FAILED)
    console.say(
        f"best loss {result.best_loss:.4f} in epoch {result.best_epoch} of "
        f"{len(result.history)}: {result.best_file}"
    )


def inspect(
    config_file: ConfigFile,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Show the network that a configuration describes: its layers, size and shape."""
    config = begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console

    with native_notes_hidden(console.show_notes):
        from heartseg.pipelines.inspect import run_inspect

        summary, diagram = run_inspect(config, output_dir=output_dir, overwrite=overwrite)
    console.say(summary)
    if diagram is not None:
        console.say(f"diagram: {diagram}")


def info() -> None:
    """Print the card of the packaged model: its purpose, limits, scores and licence."""
    from heartseg.cli import console
    from heartseg.modelfile.packaged import render_card

    console.show_markdown(render_card())
