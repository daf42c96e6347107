"""``heartseg evaluate --compare``: two evaluations of the same patients, structure by structure."""

import logging
from dataclasses import dataclass
from pathlib import Path

from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.evaluation.comparison import (
    Comparison,
    check_comparable,
    compare_tables,
    read_cases,
    write_comparison,
)
from heartseg.files import read_json
from heartseg.ownership import Outputs, filling
from heartseg.runs.layout import RunLayout

logger = logging.getLogger(__name__)

CASES, SUMMARY = "cases.csv", "summary.json"
OWNED = Outputs("evaluate --compare", ("comparison.csv", "comparison.json"))


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison of two runs found.

    Attributes:
        output_dir: Where its files are; None if it was not written.
        comparison: The tests.
    """

    output_dir: Path | None
    comparison: Comparison


def run_comparison(
    config: Config,
    first: Path,
    second: Path,
    *,
    output_dir: Path | None = None,
    overwrite: bool = False,
) -> ComparisonResult:
    """Compare two evaluations of the same patients.

    Args:
        config: Uses the section `evaluate` (bootstrap).
        first: Run A: a run folder, an evaluation folder, or a ``cases.csv``.
        second: Run B.
        output_dir: Where the tables go; None writes nothing.
        overwrite: Replace an earlier comparison.

    Returns:
        The tests.

    Raises:
        DataError: If a run has no scores, they share no case, or they were scored in different
            ways: with other tolerances, scopes or references.
    """
    files = [_find_cases_file(run) for run in (first, second)]
    tables = [read_cases(file) for file in files]
    _check_tolerances(*files)
    check_comparable(*tables)
    comparison = compare_tables(
        *tables, num_resamples=config.evaluate.num_bootstrap, seed=config.evaluate.seed
    )
    for warning in comparison.warnings:
        logger.warning("%s", warning)
    if output_dir is not None:
        with filling(output_dir, OWNED, overwrite=overwrite):
            write_comparison(output_dir, comparison, names=(str(first), str(second)))
    return ComparisonResult(output_dir, comparison)


def _check_tolerances(first: Path, second: Path) -> None:
    """Make sure that both surfaces were compared with one tolerance, as far as it is known."""
    summaries = [file.with_name(SUMMARY) for file in (first, second)]
    if not all(summary.is_file() for summary in summaries):
        return
    tolerances = [read_json(summary).get("tolerance_mm") for summary in summaries]
    if tolerances[0] != tolerances[1]:
        raise DataError(
            f"{second}: expected the tolerance of {first}, {tolerances[0]} mm, found "
            f"{tolerances[1]} mm; score both runs with the same evaluate.tolerance_mm"
        )


def _find_cases_file(run: Path) -> Path:
    """Return the scores of a run folder, an evaluation folder, or the file itself."""
    if run.is_file():
        return run
    candidates = [run / CASES, RunLayout(run).evaluation / CASES]
    for file in candidates:
        if file.is_file():
            return file
    raise DataError(
        f"{run}: expected {CASES} there or in evaluation/; run `heartseg evaluate` first"
    )
