"""``heartseg infer``: its arguments and its result."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from heartseg.cli.options import (
    Absent,
    BodySurface,
    Device,
    Diagnosis,
    Height,
    LogFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
    SeriesNumber,
    Threads,
    Weight,
    begin,
    hint_settings,
    join_settings,
    name_keys,
    path_argument,
    path_option,
    split_config,
    split_terms,
)
from heartseg.plurals import counted

if TYPE_CHECKING:
    from heartseg.config.schema import Config
    from heartseg.inference.volumetry import VolumeRow
    from heartseg.pipelines.infer import InferResult

PACKAGED_SECTIONS = ("infer", "data", "parallel", "run_dir")
"""Sections of the configuration that matter if the packaged model segments."""
SHOWN_FILES = 5
"""How many files of a case are named in its line."""


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
    model_file: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            "--model",
            metavar="FILE|RUN",
            help="Use this model, with the settings of this call: an .onnx file that `heartseg "
            "export` wrote, a .keras file, or the folder of a run or study.",
        ),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    output_dir: OutputDir = None,
    series: SeriesNumber = None,
    absent: Absent = None,
    diagnosis: Diagnosis = None,
    hints: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            metavar="CSV",
            help="Table with the columns case, and absent or diagnosis: what is known of each "
            "case.",
        ),
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also write one page per volume, NAME_report.html."),
    ] = False,
    surfaces: Annotated[
        bool,
        typer.Option("--surfaces", help="Also write closed surfaces, NAME_LV.stl and others."),
    ] = False,
    slicer: Annotated[
        bool,
        typer.Option("--slicer", help="Also write NAME.seg.nrrd and colours for 3D Slicer."),
    ] = False,
    split: Annotated[
        bool,
        typer.Option("--split", help="Also write one mask per structure, NAME_LV.nii.gz."),
    ] = False,
    dicom_seg: Annotated[
        bool,
        typer.Option(
            "--dicom-seg", help="Also write NAME.seg.dcm, which refers to the DICOM series."
        ),
    ] = False,
    suggest: Annotated[
        bool,
        typer.Option(
            "--suggest", help="Also write which slices to correct first, for heartseg refine."
        ),
    ] = False,
    structures: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="LV,RV,...", help="Only these structures, in every result."),
    ] = None,
    diameters: Annotated[
        bool,
        typer.Option(
            "--diameters",
            help="Also measure surface areas and diameters of vessels, as --report and --surfaces "
            "do.",
        ),
    ] = False,
    height_cm: Height = None,
    weight_kg: Weight = None,
    bsa_m2: BodySurface = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Segment slices and volumes: label maps, numbers, and surfaces and pages on demand."""
    config_file, files = split_config(inputs or [])
    keys = name_keys(overrides)
    settings = join_settings(
        overrides,
        {
            "--device": ("parallel.device", device),
            "--threads": ("parallel.threads", threads),
            "--structures": ("infer.structures", split_terms(structures)),
            "--diameters": ("infer.diameters", diameters or None),
            "--height": ("infer.height_cm", height_cm),
            "--weight": ("infer.weight_kg", weight_kg),
            "--bsa": ("infer.bsa_m2", bsa_m2),
            **hint_settings(absent, diagnosis),
            "--hints": ("infer.hints", hints and str(hints)),
        },
    )
    asked = {
        "report": report,
        "surfaces": surfaces,
        "slicer": slicer,
        "split": split,
        "dicom_seg": dicom_seg,
        "suggestion": suggest,
    }
    config = _add_outputs(
        begin(config_file, settings, quiet, log_file),
        [name for name, is_wanted in asked.items() if is_wanted],
    )
    if model_file is not None and (config_file is not None or "run_dir" in keys):
        raise typer.BadParameter("--model names the model already; leave out the run")
    packaged = config_file is None and "run_dir" not in keys and model_file is None
    ignored = [key for key in keys if key.split(".")[0] not in PACKAGED_SECTIONS]
    if packaged and ignored:
        raise typer.BadParameter(
            f"--set {', '.join(ignored)}: the packaged model does not use this; name the CONFIG of "
            "a run of your own"
        )
    from heartseg.cli import console
    from heartseg.pipelines.infer import run_infer

    with console.progress("infer") as track:
        result = run_infer(
            config,
            files,
            output_dir=output_dir,
            series=series,
            packaged=packaged,
            model_file=model_file,
            overwrite=overwrite,
            report=track,
        )
    _show_volumes(result)
    counts = ((result.num_volumes, "volume"), (result.num_pictures, "picture"))
    segmented = " and ".join(counted(number, noun) for number, noun in counts if number)
    console.say(
        f"{segmented} segmented in {result.output_dir} on the {result.device.removeprefix('the ')}"
    )


def _add_outputs(config: "Config", formats: Sequence[str]) -> "Config":
    outputs = list(dict.fromkeys([*config.infer.outputs, *formats]))
    return config.model_copy(update={"infer": config.infer.model_copy(update={"outputs": outputs})})


def _show_volumes(result: "InferResult") -> None:
    """Print a line per case: its volumes in mL, what is doubtful, its files."""
    from heartseg.cli import console

    for case, files in result.files.items():
        rows = [row for row in result.volumes if row.case == case]
        found = [f"{row.structure} {row.volume_ml:.1f}" for row in rows if row.voxels]
        flags = _gather_flags(rows)
        parts = [f"{', '.join(found)} mL"] if found else []
        parts += [f"flags: {flags}"] if flags else []
        parts += [_name_files(files)] if files else []
        if parts:
            console.say(f"{case}: {' | '.join(parts)}")


def _name_files(files: Sequence[Path]) -> str:
    """Name the first files; where there is one per structure, the others are counted."""
    names = [file.name for file in files[:SHOWN_FILES]]
    more = len(files) - len(names)
    return ", ".join(names) + (f" and {counted(more, 'other file')}" if more else "")


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
