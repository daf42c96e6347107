"""``heartseg view``: its arguments and its result."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from heartseg.cli.options import (
    BodySurface,
    Height,
    LogFile,
    Overrides,
    Overwrite,
    Quiet,
    SeriesNumber,
    Weight,
    begin,
    join_settings,
    path_argument,
    path_option,
    split_config,
)


def view(
    inputs: Annotated[
        list[Path],
        path_argument(
            metavar="[CONFIG] SCAN LABELMAP",
            help="A scan and its label map, of any format and tool. A first argument that ends in "
            ".yaml is a configuration, whose section labels defines the structures.",
        ),
    ],
    output_file: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            "--output", "-o", metavar="FILE", help="The page; the default is NAME_report.html."
        ),
    ] = None,
    series: SeriesNumber = None,
    height_cm: Height = None,
    weight_kg: Weight = None,
    bsa_m2: BodySurface = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Show a scan and its label map on one page that opens in any browser, offline."""
    config_file, files = split_config(inputs)
    if len(files) != 2:
        raise typer.BadParameter("give a SCAN and a LABELMAP, two files")
    settings = join_settings(
        overrides,
        {
            "--height": ("infer.height_cm", height_cm),
            "--weight": ("infer.weight_kg", weight_kg),
            "--bsa": ("infer.bsa_m2", bsa_m2),
        },
    )
    config = begin(config_file, settings, quiet, log_file)
    from heartseg.measurements.body_surface import body_surface_m2

    body_m2 = body_surface_m2(
        height_cm=config.infer.height_cm,
        weight_kg=config.infer.weight_kg,
        area_m2=config.infer.bsa_m2,
    )
    from heartseg.cli import console
    from heartseg.pipelines.view import run_view

    with console.progress("view") as report:
        page = run_view(
            files[0],
            files[1],
            table=config.label_table,
            series=series,
            body_m2=body_m2,
            output_file=output_file,
            image_suffix=config.data.image_suffix,
            overwrite=overwrite,
            report=report,
        )
    console.say(f"page: {page}")
