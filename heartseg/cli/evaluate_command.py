"""``heartseg evaluate``: scoring a model, scoring label maps of any tool, comparing two runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from heartseg.cli.options import (
    Device,
    LogFile,
    OptionalConfigFile,
    OutputDir,
    Overrides,
    Overwrite,
    Quiet,
    Threads,
    begin,
    join_settings,
    path_option,
)

if TYPE_CHECKING:
    from heartseg.config.schema import Config


def evaluate(
    config_file: OptionalConfigFile = None,
    predictions: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="DIR", help="Label maps of any tool, to score without a model."),
    ] = None,
    references: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="DIR", help="Reference label maps, matched by case name."),
    ] = None,
    endpoints: Annotated[
        Optional[Path],  # noqa: UP045
        path_option(metavar="DIR", help="Endpoint maps, for the scope `required`."),
    ] = None,
    resample: Annotated[
        bool, typer.Option("--resample", help="Resample predictions to the references' grids.")
    ] = False,
    label_map: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--map",
            metavar="FROM=TO,...",
            help="Label values of the predictions, if they are not those of the references, such "
            "as 3=1,5=2. Values that are not named stay.",
        ),
    ] = None,
    compare: Annotated[
        Optional[tuple[Path, Path]],  # noqa: UP045
        path_option(metavar="RUN_A RUN_B", help="Compare two evaluations of the same patients."),
    ] = None,
    device: Device = None,
    threads: Threads = None,
    output_dir: OutputDir = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
) -> None:
    """Score a model on its test cases, or label maps of any tool, or compare two runs."""
    if (predictions is None) != (references is None):
        raise typer.BadParameter("--predictions and --references must be given together")
    if config_file is None and predictions is None and compare is None:
        raise typer.BadParameter(
            "expected a CONFIG, or --predictions and --references, or --compare"
        )
    _refuse_ignored(
        {
            "--predictions": predictions is not None,
            "--endpoints": endpoints is not None,
            "--resample": resample,
            "--map": label_map is not None,
        },
        compares=compare is not None,
    )
    if config_file is None and (device is not None or threads is not None):
        raise typer.BadParameter("--device, --threads: only scoring a model, a CONFIG, uses these")
    mapping = None if label_map is None else _parse_mapping(label_map)
    if compare is not None and overwrite and output_dir is None:
        raise typer.BadParameter("--overwrite: --compare without --output writes no files")
    settings = join_settings(
        overrides,
        {"--device": ("parallel.device", device), "--threads": ("parallel.threads", threads)},
    )
    config = begin(config_file, settings, quiet, log_file)
    if compare is not None:
        _compare(config, compare, output_dir, overwrite)
    elif predictions is not None and references is not None:
        _score_label_maps(
            config, (predictions, references, endpoints), output_dir, resample, mapping, overwrite
        )
    else:
        _score_model(config, output_dir, overwrite)


def _refuse_ignored(given: Mapping[str, bool], *, compares: bool) -> None:
    """Refuse options that the chosen way of evaluating would ignore.

    Args:
        given: Whether each option that only label maps have was given.
        compares: Whether two evaluations are compared.

    Raises:
        BadParameter: If one was.
    """
    options = [option for option, is_given in given.items() if is_given]
    if compares and options:
        raise typer.BadParameter(
            f"{', '.join(options)}: --compare reads the scores of two evaluations, and does not "
            "use this; evaluate first, then compare"
        )
    if options and not given["--predictions"]:
        raise typer.BadParameter(
            f"{', '.join(options)}: scores label maps only, together with --predictions and "
            "--references"
        )


def _parse_mapping(text: str) -> dict[int, int]:
    """Read ``3=1,5=2`` as label of the references by label of the predictions.

    Raises:
        BadParameter: If it is something else, or names a label twice.
    """
    mapping: dict[int, int] = {}
    for pair in text.split(","):
        source, equals, target = (part.strip() for part in pair.partition("="))
        if not equals or not (source.isdecimal() and target.isdecimal()):
            raise typer.BadParameter(
                f"--map {text}: expected pairs of label values such as 3=1,5=2, found {pair!r}"
            )
        if int(source) in mapping:
            raise typer.BadParameter(f"--map {text}: names the label {int(source)} twice")
        mapping[int(source)] = int(target)
    return mapping


def _compare(
    config: "Config", runs: tuple[Path, Path], output_dir: Path | None, overwrite: bool
) -> None:
    from heartseg.cli import tables
    from heartseg.pipelines.compare import run_comparison

    compared = run_comparison(config, *runs, output_dir=output_dir, overwrite=overwrite)
    tables.show_comparison(compared.comparison, compared.output_dir)


def _score_label_maps(
    config: "Config",
    folders: tuple[Path, Path, Path | None],
    output_dir: Path | None,
    resample: bool,
    mapping: Mapping[int, int] | None,
    overwrite: bool,
) -> None:
    from heartseg.cli import console, tables
    from heartseg.pipelines.score_label_maps import run_scoring

    predictions, references, endpoints = folders
    with console.progress("evaluate") as report:
        scored = run_scoring(
            config,
            predictions,
            references,
            endpoints_dir=endpoints,
            output_dir=output_dir,
            resample=resample,
            mapping=mapping,
            overwrite=overwrite,
            report=report,
        )
    tables.show_scores(scored.summary, scored.output_dir)


def _score_model(config: "Config", output_dir: Path | None, overwrite: bool) -> None:
    from heartseg.cli import console, tables

    with console.progress("evaluate") as report:
        report(0, 0, "loading TensorFlow")
        from heartseg.pipelines.score_model import run_evaluation

        result = run_evaluation(config, output_dir=output_dir, overwrite=overwrite, report=report)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.published.items())
    console.say(f"published measures over the test slices: {figures}")
    tables.show_scores(result.summary, result.output_dir)
