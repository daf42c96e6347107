"""``heartseg evaluate --compare``: two evaluations of the same patients, structure by structure."""

import logging
from dataclasses import dataclass
from pathlib import Path

from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.evaluation.comparison import (
    Comparison,
    compare_tables,
    read_cases,
    write_comparison,
)
from heartseg.files import filling
from heartseg.runs.layout import RunLayout

logger = logging.getLogger(__name__)

CASES = "cases.csv"
OWNED = ("comparison.csv", "comparison.json")


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
        DataError: If a run has no scores or they share no case.
    """
    tables = [read_cases(_find_cases_file(run)) for run in (first, second)]
    comparison = compare_tables(
        *tables, num_resamples=config.evaluate.num_bootstrap, seed=config.evaluate.seed
    )
    for warning in comparison.warnings:
        logger.warning("%s", warning)
    if output_dir is not None:
        with filling(output_dir, OWNED, overwrite=overwrite):
            write_comparison(output_dir, comparison, names=(str(first), str(second)))
    return ComparisonResult(output_dir, comparison)


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
