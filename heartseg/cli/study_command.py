"""``heartseg study``: a whole cross-validation in one command."""

from typing import Annotated

import typer

from heartseg.cli.options import ConfigFile, LogFile, Overrides, Overwrite, Quiet, begin


def study(
    config_file: ConfigFile,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be done, how long it would take, and how much disk and memory "
            "it needs; write nothing.",
        ),
    ] = False,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Prepare, train and test folds by patient, and score every patient out of fold.

    RUN_DIR becomes the folder of the study: a run per fold, and the scores of all patients with
    tables for papers. After an interruption of any kind the same command goes on. For new scans,
    heartseg infer takes the folder and averages the models of the folds. Without split.folds there
    are five folds.
    """
    config = begin(config_file, overrides, quiet, log_file)
    from heartseg.cli import console, tables

    if dry_run:
        with console.progress("study") as report:
            report(0, 0, "timing a step")
            from heartseg.study.forecast import forecast_study

            lines = forecast_study(config)
        for line in lines:
            console.say(line)
        return
    from heartseg.study.running import run_study

    with console.progress("study") as report:
        result = run_study(config, overwrite=overwrite, report=report)
    tables.show_scores(result.summary, result.output_dir)
    console.say(f"for new scans: heartseg infer {result.study_dir} SCAN")
