"""``heartseg export``: a model for other programs."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from heartseg.cli.options import (
    LogFile,
    Overrides,
    Overwrite,
    Quiet,
    begin,
    path_argument,
    path_option,
)

PACKAGED = "packaged"


class ExportFormat(str, Enum):
    """The formats, as ``heartseg.inference.exports.FORMATS`` names them."""

    onnx = "onnx"
    openvino = "openvino"
    litert = "litert"
    saved_model = "saved_model"


def export(
    config_file: Annotated[
        Path,
        path_argument(
            metavar="[CONFIG|packaged]",
            help="The configuration of a trained run, or the packaged model.",
        ),
    ] = Path(PACKAGED),
    output: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            *("--output", "-o"), metavar="FILE", help="The file to write (saved_model: its folder)."
        ),
    ] = None,
    export_format: Annotated[
        ExportFormat, typer.Option("--format", help="The format of the file.")
    ] = ExportFormat.onnx,
    scan_file: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            "--scan",
            metavar="SCAN",
            help="The scan on which the export is compared with Keras; without it a phantom.",
        ),
    ] = None,
    licence: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TEXT", help="The licence of the weights, which the file states."),
    ] = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Write a model for other programs: ONNX, OpenVINO, LiteRT or a SavedModel."""
    if output is None:
        raise typer.BadParameter("name the file to write: --output FILE")
    packaged = config_file == Path(PACKAGED)
    if packaged and overrides:
        raise typer.BadParameter("--set: the packaged model has no settings; name a CONFIG")
    config = begin(None if packaged else config_file, overrides, quiet, log_file)
    from heartseg.cli import console

    with console.progress("export") as report:
        from heartseg.pipelines.export import run_export

        result = run_export(
            None if packaged else config,
            format_name=export_format.value,
            output=output,
            scan_file=scan_file,
            licence=licence,
            overwrite=overwrite,
            report=report,
        )
    console.say(
        f"{result.file}: written; its labels differ from Keras's on {result.different:,} of "
        f"{result.voxels:,} voxels"
    )
