"""The ``heartseg`` command: parse, read the configuration, delegate to a pipeline.

Whatever takes long to import is imported inside a command, after its configuration is known to be
valid: ``heartseg --help`` answers at once, and so does a mistake in a configuration.
"""

import gc
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

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
    path_argument,
    path_option,
)
from heartseg.errors import HeartsegError
from heartseg.native_notes import ask_for_errors_only, native_notes_hidden

if TYPE_CHECKING:
    from heartseg.config.schema import Config

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
PATIENCE_S = 1.5
"""How long an interrupted command may take to end by itself."""
OBJECTS_PER_COLLECTION = 10_000
"""Modules that load make objects and no garbage: at Python's own 700, looking for it costs a
command that needs TensorFlow half a second or more."""
CONFIG_SUFFIXES = (".yaml", ".yml")
OPTIONAL_BACKENDS = ("jax",)

_leaving = threading.Event()


class Commands(TyperGroup):
    """The commands, with the one place where errors become messages and exit codes."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401 - Typer does not export the type
        """Run a command; exit 1 with a message if the user can mend it, 130 if interrupted."""
        from heartseg.cli import console

        try:
            return super().invoke(ctx)
        except HeartsegError as error:
            console.fail(str(error))
            raise typer.Exit(EXIT_FAILED) from error
        except OSError as error:
            # The system will not do something with a file, and says why.
            if error.filename is None:
                raise
            console.fail(f"{error.filename}: {error.strerror}")
            raise typer.Exit(EXIT_FAILED) from error
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL_BACKENDS:
                raise
            console.fail(
                f"KERAS_BACKEND names {error.name}, which is not installed; pip install "
                f"'heartseg[{error.name}]', or unset KERAS_BACKEND to use TensorFlow"
            )
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt:
            console.leave_at_once(_how_to_go_on(ctx.invoked_subcommand), EXIT_INTERRUPTED)


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


def _begin(
    config_file: Path | None, overrides: list[str] | None, quiet: bool, log_file: Path | None
) -> "Config":
    """Set up what is told, and read the configuration."""
    from heartseg.cli import console

    console.configure(quiet=quiet, log_file=log_file)
    from heartseg.config.loading import load_config

    return load_config(config_file, overrides or ())


@app.command()
def synth(
    output_dir: Annotated[Path, path_argument(metavar="OUT_DIR", help="Where volumes go.")],
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
    config = _begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
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
    config = _begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
    from heartseg.pipelines.split import run_split

    with console.progress("split") as report:
        result = run_split(config, overwrite=overwrite, report=report)
    for fold, counts in enumerate(result.slices):
        name = f"fold {fold}: " if len(result.slices) > 1 else ""
        parts = ", ".join(f"{part} {count}" for part, count in counts.items())
        console.say(f"{name}{parts} slices in {result.dataset_dir}")


@app.command()
def train(
    config_file: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last finished epoch.")
    ] = False,
    init: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="packaged|FILE",
            help="Start from the packaged weights, or those of a .keras file; as train.init.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Fit the network to the training part of the split and keep the best checkpoint."""
    chosen = [] if init is None else [f"train.init={init}"]
    config = _begin(config_file, [*(overrides or ()), *chosen], quiet, log_file)
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
            # JAX would first wait a minute or two for the processes that are lost.
            console.leave_at_once(str(error), EXIT_FAILED)
    console.say(
        f"best loss {result.best_loss:.4f} in epoch {result.best_epoch} of "
        f"{len(result.history)}: {result.best_file}"
    )


@app.command()
def evaluate(
    config_file: OptionalConfigFile = None,
    predictions: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="DIR", help="Label maps of any tool, to score without a model."),
    ] = None,
    references: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="DIR", help="True label maps, paired by case name."),
    ] = None,
    endpoints: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="DIR", help="Endpoint maps, for the scope `required`."),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Bring predictions onto the references' grids.")
    ] = False,
    compare: Annotated[
        Optional[tuple[Path, Path]],  # noqa: UP045
        path_option(metavar="RUN_A RUN_B", help="Compare two evaluations of the same patients."),
    ] = None,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Score a run on its test cases, or the label maps of any tool; compare two runs."""
    if (predictions is None) != (references is None):
        raise typer.BadParameter("--predictions and --references go together")
    if config_file is None and predictions is None and compare is None:
        raise typer.BadParameter("give a CONFIG, or --predictions and --references, or --compare")
    config = _begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console

    if compare is not None:
        from heartseg.pipelines.compare import run_comparison

        compared = run_comparison(config, *compare, output_dir=output_dir, overwrite=overwrite)
        console.show_comparison(compared.comparison)
        if compared.output_dir is not None:
            console.say(f"tables in {compared.output_dir}")
        return
    if predictions is not None and references is not None:
        from heartseg.pipelines.score_label_maps import run_scoring

        with console.progress("evaluate") as report:
            scored = run_scoring(
                config,
                predictions,
                references,
                endpoints_dir=endpoints,
                output_dir=output_dir,
                resample=resample,
                overwrite=overwrite,
                report=report,
            )
        console.show_scores(scored.summary, scored.output_dir)
        return

    with console.progress("evaluate") as report:
        report(0, 0, "loading TensorFlow")
        from heartseg.pipelines.score_model import run_evaluation

        result = run_evaluation(config, output_dir=output_dir, overwrite=overwrite, report=report)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.published.items())
    console.say(f"over the test slices, as published: {figures}")
    console.show_scores(result.summary, result.output_dir)


@app.command()
def infer(
    inputs: Annotated[
        Optional[list[Path]],  # noqa: UP045
        path_argument(
            metavar="[CONFIG] [INPUT]...",
            help="Pictures, NIfTI volumes, folders of them; a first argument that ends in .yaml "
            "is the configuration of a trained run. Without one the packaged model is used, which "
            "takes volumes and writes to ./heartseg_output.",
        ),
    ] = None,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Segment slices, folders of slices and NIfTI volumes."""
    config_file, files = _split_config(inputs or [])
    config = _begin(config_file, overrides, quiet, log_file)
    packaged = config_file is None and not any(
        override.startswith("run_dir=") for override in overrides or ()
    )
    from heartseg.cli import console
    from heartseg.pipelines.infer import run_infer

    with console.progress("infer") as report:
        result = run_infer(
            config,
            files,
            output_dir=output_dir,
            packaged=packaged,
            overwrite=overwrite,
            report=report,
        )
    console.say(
        f"{result.num_volumes} volumes and {result.num_pictures} pictures segmented in "
        f"{result.output_dir}"
    )


@app.command()
def colorize(
    inputs: Annotated[
        list[Path],
        path_argument(
            metavar="[CONFIG] INPUT...",
            help="Label maps (NIfTI, or pictures of label values), folders of them; colour masks "
            "with --decode. A first argument that ends in .yaml names the colours.",
        ),
    ],
    output_dir: OutputDir = None,
    overlay: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="IMAGE", help="Also draw the labels over this image."),
    ] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Turn colour masks into label values.")
    ] = False,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Paint label maps, or turn colour masks back into label maps."""
    config_file, files = _split_config(inputs)
    config = _begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
    from heartseg.pipelines.colorize import run_colorize

    with console.progress("colorize") as report:
        result = run_colorize(
            files,
            table=config.label_table,
            output_dir=output_dir,
            overlay=overlay,
            decode=decode,
            plane=config.prepare.plane,
            overwrite=overwrite,
            report=report,
        )
    console.say(
        f"{result.num_pictures} pictures of {result.num_inputs} inputs in {result.output_dir}"
    )


@app.command()
def inspect(
    config_file: ConfigFile,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Show the network that a configuration describes: its layers, size and shape."""
    config = _begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console

    with native_notes_hidden(console.show_notes):
        from heartseg.pipelines.inspect import run_inspect

        summary, diagram = run_inspect(config, output_dir=output_dir)
    console.say(summary)
    if diagram is not None:
        console.say(f"diagram: {diagram}")


@app.command()
def info() -> None:
    """Print the card of the packaged model: what it is for, its limits, scores and licence."""
    from heartseg.cli import console
    from heartseg.modelfile.packaged import render_card

    console.say(render_card())


def _split_config(arguments: list[Path]) -> tuple[Path | None, list[Path]]:
    """Take the configuration off the front, if the first argument is one."""
    if arguments and arguments[0].suffix.lower() in CONFIG_SUFFIXES:
        return arguments[0], arguments[1:]
    return None, arguments


def main() -> None:
    """Run the command line."""
    ask_for_errors_only()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    finally:
        # Python looks for garbage once more as it ends: a second, with TensorFlow loaded.
        gc.freeze()


def _interrupt(_number: int, _frame: object) -> NoReturn:
    """End soon after Ctrl-C; a second one ends at once.

    Python code is interrupted as usual. But an exception that is raised while C++ code calls back
    may be lost, and TensorFlow's threads take seconds to end. Every file is whole at any moment,
    so that the process may then be left.
    """
    from heartseg.cli import console

    command = next((name for name in sys.argv[1:] if not name.startswith("-")), None)
    if _leaving.is_set():
        console.leave_at_once(_how_to_go_on(command), EXIT_INTERRUPTED)
    _leaving.set()
    timer = threading.Timer(
        PATIENCE_S, console.leave_at_once, (_how_to_go_on(command), EXIT_INTERRUPTED)
    )
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt
