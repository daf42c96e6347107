"""The commands that make, prepare, split and colour data: none of them needs a model.

Modules that take long to import are imported inside a command, after its configuration is known to
be valid.
"""

from pathlib import Path
from typing import Annotated, Optional

import typer

from heartseg.cli.options import (
    CONFIG_SUFFIXES,
    ConfigFile,
    LogFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
    begin,
    path_argument,
    path_option,
    split_config,
)
from heartseg.plurals import counted


def synth(
    output_dir: Annotated[Path, path_argument(metavar="OUT_DIR", help="Folder of the volumes.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of phantom patients.")] = 12,
    size: Annotated[int, typer.Option(min=32, max=512, help="Voxels along the longest axis.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same volumes.")] = 0,
    labels: Annotated[
        str,
        typer.Option(
            metavar="TABLE",
            help="What is labelled, in the values of that data set: hvsmr, mmwhs, acdc, mnms, or a "
            "configuration (*.yaml) with a section labels.",
        ),
    ] = "hvsmr",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Make phantom hearts in the layout of HVSMR-2.0, to try heartseg without data."""
    is_config = labels.lower().endswith(CONFIG_SUFFIXES)
    config = begin(
        Path(labels) if is_config else None,
        None if is_config else [f"labels={labels}"],
        quiet,
        log_file,
    )
    from heartseg.cli import console
    from heartseg.pipelines.synth import run_synth

    with console.progress("synth") as report:
        run_synth(
            output_dir,
            patients=patients,
            size=size,
            seed=seed,
            overwrite=overwrite,
            table=config.label_table,
            report=report,
        )
    console.say(f"{counted(patients, 'phantom patient')} in {output_dir}")


def prepare(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Cut volumes into slices and colour masks, with a manifest that lists their sources."""
    config = begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
    from heartseg.pipelines.prepare import run_prepare

    with console.progress("prepare") as report:
        result = run_prepare(config, overwrite=overwrite, report=report)
    console.say(
        f"{counted(result.num_slices, 'slice')} of {counted(result.num_cases, 'case')} in "
        f"{result.master_dir} ({result.num_written:,} written now)"
    )


def split(
    config_file: ConfigFile,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Divide the slices into training, validation and test parts, by patient."""
    config = begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
    from heartseg.pipelines.split import run_split

    with console.progress("split") as report:
        result = run_split(config, overwrite=overwrite, report=report)
    for fold, counts in enumerate(result.slices):
        name = f"fold {fold}: " if len(result.slices) > 1 else ""
        parts = ", ".join(f"{part} {counted(count, 'slice')}" for part, count in counts.items())
        console.say(f"{name}{parts} in {result.dataset_dir}")


def colorize(
    inputs: Annotated[
        list[Path],
        path_argument(
            metavar="[CONFIG] INPUT...",
            help="Label maps (NIfTI, NRRD, MetaImage, MGH, DICOM SEG, or pictures of label values) "
            "or folders of them; colour masks with --decode. A first argument that is a CONFIG (a "
            "YAML file, the folder of a run, a name that ships with heartseg) defines the colours "
            "in its section labels.",
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
    """Colour label maps, or turn colour masks back into label maps."""
    config_file, files = split_config(inputs)
    config = begin(config_file, overrides, quiet, log_file)
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
        f"{counted(result.num_pictures, 'picture')} of {counted(result.num_inputs, 'input')} in "
        f"{result.output_dir}"
    )
