"""``heartseg dataset``: the data set for other programs."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from heartseg.cli.options import ConfigFile, LogFile, OutputDir, Overrides, Overwrite, Quiet, begin
from heartseg.plurals import counted

dataset = typer.Typer(no_args_is_help=True, help="Give the data set to other programs.")


class Target(str, Enum):
    """The layouts that can be written."""

    nnunet = "nnunet"
    msd = "msd"


DEFAULT_DIRS = {Target.nnunet: Path("Dataset501_heart"), Target.msd: Path("Task01_heart")}


@dataset.callback()
def describe() -> None:
    """Give the data set to other programs."""


@dataset.command()
def export(
    config_file: ConfigFile,
    to: Annotated[Target, typer.Option("--to", help="nnU-Net v2, or the Decathlon (msd).")],
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Write images, label maps, dataset.json and, for nnU-Net, splits_final.json.

    The folder is Dataset501_heart or Task01_heart unless --output names another. splits_final.json
    holds the folds of `heartseg split`; nnU-Net reads it from nnUNet_preprocessed/DATASET.
    """
    config = begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console
    from heartseg.pipelines.export_dataset import SPLITS, run_export

    with console.progress("dataset export") as report:
        result = run_export(
            config,
            to.value,
            output_dir or DEFAULT_DIRS[to],
            overwrite=overwrite,
            report=report,
        )
    console.say(f"{counted(result.num_cases, 'case')} in {result.output_dir}")
    if result.num_folds:
        console.say(
            f"{counted(result.num_folds, 'fold')} in {result.output_dir / SPLITS}: copy it to "
            f"nnUNet_preprocessed/{result.output_dir.name} after nnUNetv2_plan_and_preprocess"
        )
