"""``heartseg refine`` and ``heartseg suggest``: their arguments and their results."""

from pathlib import Path
from typing import Annotated

import typer

from heartseg.cli.options import (
    Absent,
    Diagnosis,
    LogFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
    SeriesNumber,
    begin,
    hint_settings,
    join_settings,
    path_argument,
    path_option,
    refuse_ignored,
)
from heartseg.plurals import counted

Scan = Annotated[Path, path_argument(metavar="SCAN", help="The scan, of any format.")]
EMPTY_SLICES = ("unknown", "background")
HINT_KEYS = ("infer.absent", "infer.diagnosis", "infer.hints", "infer.structures")
SUGGEST_KEYS = ("data", "labels", "parallel", *HINT_KEYS, "infer.runtime", "infer.second_stage")
REFINE_KEYS = (
    *("data", "parallel", *HINT_KEYS, "infer.outputs", "infer.second_stage", "infer.diameters"),
    *("infer.height_cm", "infer.weight_kg", "infer.bsa_m2"),
)
"""Sections and keys of the configuration that the commands use. ``infer.structures`` is refused by
a message of its own."""


def refine(
    scan: Scan,
    labels: Annotated[
        Path,
        path_option(
            "--labels",
            metavar="PARTIAL",
            help="Label map of the scan's voxels on which some slices or strokes are drawn; 255 is "
            "unknown. NIfTI or .seg.nrrd of 3D Slicer.",
        ),
    ],
    init: Annotated[
        str,
        typer.Option(
            metavar="packaged|RUN|FILE",
            help="The model that adapts: the packaged one, the best of a run, or a .keras file, "
            "such as the adapted model of an earlier call.",
        ),
    ] = "packaged",
    minutes: Annotated[
        float, typer.Option(min=0.05, max=120, help="Time in which the model adapts.")
    ] = 3.0,
    output_dir: OutputDir = None,
    series: SeriesNumber = None,
    empty_slices: Annotated[
        str,
        typer.Option(
            metavar="unknown|background",
            help="What a slice is on which nothing is drawn.",
        ),
    ] = "unknown",
    absent: Absent = None,
    diagnosis: Diagnosis = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Segment a scan again, with what you drew or corrected on a few slices."""
    if empty_slices not in EMPTY_SLICES:
        raise typer.BadParameter(
            f"--empty-slices: expected {' or '.join(EMPTY_SLICES)}, found {empty_slices}"
        )
    config = begin(
        None, join_settings(overrides, hint_settings(absent, diagnosis)), quiet, log_file
    )
    refuse_ignored(overrides, command="refine", used=REFINE_KEYS)
    from heartseg.cli import console
    from heartseg.pipelines.refine import run_refine

    with console.progress("refine") as report:
        result = run_refine(
            scan,
            labels,
            config=config,
            init=init,
            minutes=minutes,
            output_dir=output_dir,
            series=series,
            empty_slices="background" if empty_slices == "background" else "unknown",
            overwrite=overwrite,
            report=report,
        )
    for notice in result.notices:
        console.logger.warning("%s: %s", scan, notice)
    console.say(result.assumption)
    judged = ", ".join(f"{name} {score:.2f}" for name, score in result.held_out.items())
    console.say(f"Dice on the part of the drawing that was held out first: {judged}")
    found = ", ".join(f"{row.structure} {row.volume_ml:.1f}" for row in result.rows if row.voxels)
    console.say(f"volumes: {found} mL")
    console.say(
        f"refined ({result.chosen}, {counted(result.steps, 'step')}): "
        f"{', '.join(file.name for file in result.files)} in {result.output_dir}"
    )


def suggest(
    scan: Scan,
    init: Annotated[
        str,
        typer.Option(metavar="packaged|RUN|FILE", help="The model whose answer is corrected."),
    ] = "packaged",
    count: Annotated[int, typer.Option(min=1, max=50, help="Number of slices.")] = 5,
    output_dir: OutputDir = None,
    series: SeriesNumber = None,
    absent: Absent = None,
    diagnosis: Diagnosis = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """List the slices to correct first, and write a label map that holds only these."""
    config = begin(
        None, join_settings(overrides, hint_settings(absent, diagnosis)), quiet, log_file
    )
    refuse_ignored(overrides, command="suggest", used=SUGGEST_KEYS)
    from heartseg.cli import console
    from heartseg.pipelines.suggest import run_suggest

    with console.progress("suggest") as report:
        result = run_suggest(
            scan,
            config=config,
            init=init,
            count=count,
            output_dir=output_dir,
            series=series,
            overwrite=overwrite,
            report=report,
        )
    for notice in result.notices:
        console.logger.warning("%s: %s", scan, notice)
    for chosen in result.slices:
        console.say(
            f"axis {chosen.axis}, slice {chosen.index}: "
            f"about {counted(round(chosen.unsure_voxels), 'voxel')} unsure"
        )
    console.say(f"to correct: {', '.join(str(file) for file in result.files)}")
