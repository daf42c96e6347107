"""The command that makes surfaces of label maps."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from heartseg.cli.options import (
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


class MeshFormat(str, Enum):
    """The formats of surfaces."""

    STL = "stl"
    PLY = "ply"
    OBJ = "obj"
    GLB = "glb"


def surfaces(
    inputs: Annotated[
        list[Path],
        path_argument(
            metavar="[CONFIG] LABELMAP...",
            help="Label maps of any tool (NIfTI, NRRD, DICOM SEG, ...) or folders of them. A first "
            "argument that is a CONFIG (a YAML file, the folder of a run, a name that ships with "
            "heartseg) defines structures and colours in its section labels.",
        ),
    ],
    output_dir: OutputDir = None,
    file_format: Annotated[
        MeshFormat, typer.Option("--format", help="Format of the surfaces.")
    ] = MeshFormat.STL,
    smooth_mm: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--smooth",
            metavar="MM",
            min=0,
            max=10,
            help="Standard deviation of the smoothing; by default one voxel along each axis. "
            "Volumes stay the same.",
        ),
    ] = None,
    wall_mm: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--wall",
            metavar="MM",
            min=0.1,
            max=10,
            help="Also make a hollow model to print: a wall of this thickness around the blood.",
        ),
    ] = None,
    endpoints: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(
            metavar="FILE",
            help="End zones, where the wall is open as it is at the border of the scan; a folder "
            "of such files for several label maps.",
        ),
    ] = None,
    triangles: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            metavar="N",
            min=100,
            help="Most triangles of a surface; by default as many as the voxels give, and 1.5 "
            "million for the wall.",
        ),
    ] = None,
    structures: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="LV,RV,...", help="Only these structures, also in the blood pool."),
    ] = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Make closed surfaces of label maps, for 3D viewers and printers."""
    config_file, files = split_config(inputs)
    config = begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
    from heartseg.cohort.pairing import Suffixes
    from heartseg.pipelines.surfaces import SurfaceOptions, run_surfaces

    keys = None if structures is None else tuple(structures.split(","))
    data = config.data
    with console.progress("surfaces") as report:
        result = run_surfaces(
            files,
            table=config.label_table,
            options=SurfaceOptions(file_format.value, smooth_mm, triangles, wall_mm, keys),
            output_dir=output_dir,
            endpoints=endpoints,
            suffixes=Suffixes(data.image_suffix, data.label_suffix, data.endpoints_suffix),
            overwrite=overwrite,
            report=report,
        )
    for case in result.cases:
        if case.thickness is not None:
            wall = case.thickness
            console.say(
                f"{case.name}: wall of {wall_mm:g} mm, measured {wall.minimum_mm:.2f} to "
                f"{wall.maximum_mm:.2f} mm, median {wall.median_mm:.2f} mm; "
                f"{wall.within_part:.1%} of it within 0.05 mm"
            )
    number = sum(len(case.files) for case in result.cases)
    console.say(
        f"{counted(number, 'file')} of {counted(len(result.cases), 'label map')} in "
        f"{result.output_dir}"
    )
