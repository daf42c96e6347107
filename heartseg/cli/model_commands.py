"""The commands that train, use and describe a model.

Modules that take long to import are imported inside a command, after its configuration is known to
be valid.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from heartseg.cli.options import (
    Absent,
    ConfigFile,
    Diagnosis,
    LogFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
    SeriesNumber,
    as_overrides,
    begin,
    path_argument,
    path_option,
    split_config,
)
from heartseg.errors import HeartsegError
from heartseg.native_notes import native_notes_hidden
from heartseg.plurals import counted

if TYPE_CHECKING:
    from heartseg.inference.volumetry import VolumeRow
    from heartseg.pipelines.infer import InferResult

PACKAGED_SECTIONS = ("infer", "data", "parallel", "run_dir")
"""Sections of the configuration that matter if the packaged model segments."""


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
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Fit the network to the training part of the split and keep the best checkpoint."""
    if init is not None and any(
        override.partition("=")[0].strip() == "train.init" for override in overrides or ()
    ):
        raise typer.BadParameter("--init sets train.init; leave out --set train.init")
    chosen = [] if init is None else [f"train.init={init}"]
    config = begin(config_file, [*(overrides or ()), *chosen], quiet, log_file)
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


def infer(
    inputs: Annotated[
        Optional[list[Path]],  # noqa: UP045
        path_argument(
            metavar="[CONFIG] [INPUT]...",
            help="Scans (NIfTI, a DICOM folder or .zip, NRRD, MetaImage, MGH), pictures, or "
            "folders of them. A first argument that is a CONFIG (the folder of a trained run or "
            "study, or a YAML file) names the model. Without one, heartseg uses the packaged "
            "model, which takes scans only and writes to ./heartseg_output.",
        ),
    ] = None,
    output_dir: OutputDir = None,
    series: SeriesNumber = None,
    absent: Absent = None,
    diagnosis: Diagnosis = None,
    hints: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            metavar="CSV",
            help="Table with the columns case and absent; sets infer.hints.",
        ),
    ] = None,
    suggest: Annotated[
        bool,
        typer.Option(
            "--suggest", help="Also write which slices to correct first, for heartseg refine."
        ),
    ] = False,
    dicom_seg: Annotated[
        bool,
        typer.Option(
            "--dicom-seg", help="Also write NAME.seg.dcm, which refers to the DICOM series."
        ),
    ] = False,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Segment scans of any format, slices, and folders of them."""
    config_file, files = split_config(inputs or [])
    overrides = [*(overrides or ()), *as_overrides(absent, diagnosis, hints, suggest=suggest)]
    config = begin(config_file, overrides, quiet, log_file)
    keys = [override.partition("=")[0].strip() for override in overrides or ()]
    packaged = config_file is None and "run_dir" not in keys
    ignored = [key for key in keys if key.split(".")[0] not in PACKAGED_SECTIONS]
    if packaged and ignored:
        raise typer.BadParameter(
            f"--set {', '.join(ignored)}: the packaged model does not use this; name the CONFIG of "
            "a run of your own"
        )
    from heartseg.cli import console
    from heartseg.pipelines.infer import run_infer

    with console.progress("infer") as report:
        result = run_infer(
            config,
            files,
            output_dir=output_dir,
            series=series,
            formats=["dicom_seg"] if dicom_seg else [],
            packaged=packaged,
            overwrite=overwrite,
            report=report,
        )
    _show_volumes(result)
    counts = ((result.num_volumes, "volume"), (result.num_pictures, "picture"))
    segmented = " and ".join(counted(number, noun) for number, noun in counts if number)
    console.say(
        f"{segmented} segmented in {result.output_dir} on the {result.device.removeprefix('the ')}"
    )


def _show_volumes(result: "InferResult") -> None:
    """Print a line per case: its volumes in mL, what is doubtful, its files."""
    from heartseg.cli import console

    for case, files in result.files.items():
        rows = [row for row in result.volumes if row.case == case]
        found = [f"{row.structure} {row.volume_ml:.1f}" for row in rows if row.voxels]
        flags = _gather_flags(rows)
        parts = [f"{', '.join(found)} mL"] if found else []
        parts += [f"flags: {flags}"] if flags else []
        parts += [", ".join(file.name for file in files)] if files else []
        if parts:
            console.say(f"{case}: {' | '.join(parts)}")


def _gather_flags(rows: Sequence["VolumeRow"]) -> str:
    """Return each flag with the structures that have it, such as ``truncated AO, IVC``."""
    marked: dict[str, list[str]] = {}
    for row in rows:
        for flag in filter(None, row.flags.split(";")):
            marked.setdefault(flag, []).append(row.structure)
    return "; ".join(
        f"{flag} {'all' if len(names) == len(rows) else ', '.join(names)}"
        for flag, names in marked.items()
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

    console.say(render_card())
