"""The comparison of two evaluations of the same patients, structure by structure."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heartseg.errors import DataError
from heartseg.evaluation.scoring import WHOLE_HEART
from heartseg.evaluation.statistics import PairedTest, compare_paired, holm
from heartseg.evaluation.summary import finite
from heartseg.files import natural_key, replacing, write_json

COMPARED = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
SMALLER_IS_BETTER = ("hd95_mm", "assd_mm")
MACRO = "macro"
SIGNIFICANCE = 0.05

POLICY = (
    "Patients are compared with themselves: a patient counts for a structure if both runs have a "
    "score for it. A structure that only one map holds is scored (Dice 0), so it counts.",
    "p is that of Wilcoxon's two-sided signed-rank test. p_holm is corrected by Holm over the "
    "structures of one measure and scope; macro averages and the whole heart are one test each.",
    "The effect size is the matched-pairs rank-biserial correlation: 1 if the second run's values "
    "are larger for every patient, -1 if they are smaller. Of HD95 and ASSD smaller is better.",
    "Intervals are 95 % percentile bootstrap intervals of the mean difference (second minus "
    "first), patients resampled.",
)

Table = Mapping[tuple[str, str, str], Mapping[str, float]]
"""Measures by (case, structure, scope)."""


@dataclass(frozen=True)
class ComparisonRow:
    """The test of one measure of one structure in one scope.

    Attributes:
        structure: Key of the structure, ``whole_heart`` or ``macro``.
        scope: ``full`` or ``required``.
        measure: Column of ``cases.csv``.
        better: ``A`` or ``B`` where the difference is significant, else empty.
        test: The numbers.
    """

    structure: str
    scope: str
    measure: str
    better: str
    test: PairedTest


@dataclass(frozen=True)
class Comparison:
    """All tests of two runs.

    Attributes:
        rows: One a scope, measure and structure.
        cases: The cases that both runs scored.
        warnings: What a reader must know, such as cases that only one run scored.
    """

    rows: tuple[ComparisonRow, ...]
    cases: tuple[str, ...]
    warnings: tuple[str, ...]


def read_cases(file: Path) -> Table:
    """Read the scores of an evaluation from its ``cases.csv``.

    Raises:
        DataError: If the file is missing, lacks a column, or holds a row twice.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table of scores ({error})") from error
    needed = {"case", "structure", "scope", *COMPARED}
    if not rows or not needed <= rows[0].keys():
        raise DataError(f"{file}: expected rows with the columns {', '.join(sorted(needed))}")
    table: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        key = (row["case"], row["structure"], row["scope"])
        if key in table:
            raise DataError(f"{file}: {' '.join(key)} occurs twice")
        try:
            table[key] = {
                name: math.nan if row[name] == "" else float(row[name]) for name in COMPARED
            }
        except (TypeError, ValueError) as error:
            raise DataError(f"{file}: {' '.join(key)}: expected numbers ({error})") from error
    return table


def compare_tables(
    first: Table, second: Table, *, num_resamples: int = 2000, seed: int = 137
) -> Comparison:
    """Compare two tables of scores patient by patient.

    Args:
        first: Scores of run A.
        second: Scores of run B.
        num_resamples: Bootstrap resamples of an interval.
        seed: Seed of the bootstrap.

    Returns:
        The tests, Holm-corrected over structures.

    Raises:
        DataError: If the runs share no case.
    """
    names = [{case for case, _, _ in table} for table in (first, second)]
    cases = tuple(sorted(names[0] & names[1], key=natural_key))
    if not cases:
        raise DataError("the two runs have no case in common: nothing to compare")
    warnings = [
        f"Only run {run} scored {', '.join(sorted(alone, key=natural_key))}: left out."
        for run, alone in (("A", names[0] - names[1]), ("B", names[1] - names[0]))
        if alone
    ]
    if len(cases) < 6:
        warnings.append(
            f"{len(cases)} patients: no Wilcoxon test of fewer than 6 can fall below p = 0.05."
        )
    present = [key for key in first if key in second]
    scopes = list(dict.fromkeys(scope for _, _, scope in present))
    structures = [
        name for name in dict.fromkeys(name for _, name, _ in present) if name != WHOLE_HEART
    ]
    rows: list[ComparisonRow] = []
    for scope in scopes:
        for measure in COMPARED:
            tests = {
                structure: compare_paired(
                    *(_values(t, cases, structure, scope, measure) for t in (first, second)),
                    num_resamples=num_resamples,
                    seed=seed,
                )
                for structure in (*structures, WHOLE_HEART)
            }
            tests[MACRO] = compare_paired(
                *(_macro(table, cases, structures, scope, measure) for table in (first, second)),
                num_resamples=num_resamples,
                seed=seed,
            )
            adjusted = dict(zip(structures, holm([tests[s].p for s in structures]), strict=True))
            for structure, test in tests.items():
                corrected = replace(test, p_holm=adjusted.get(structure, test.p))
                better = _better(corrected, measure)
                rows.append(ComparisonRow(structure, scope, measure, better, corrected))
    return Comparison(tuple(rows), cases, tuple(warnings))


def write_comparison(
    output_dir: Path, comparison: Comparison, *, names: tuple[str, str]
) -> dict[str, Any]:
    """Write ``comparison.csv`` and ``comparison.json``.

    Args:
        output_dir: Folder of the files; made if missing.
        comparison: The tests.
        names: What run A and run B are.

    Returns:
        The content of ``comparison.json``.

    Raises:
        DataError: If a file cannot be written.
    """
    rows = [
        {
            "scope": row.scope,
            "measure": row.measure,
            "structure": row.structure,
            **finite(asdict(row.test)),
            "better": row.better,
        }
        for row in comparison.rows
    ]
    content = {
        "run_a": names[0],
        "run_b": names[1],
        "warnings": list(comparison.warnings),
        "cases": list(comparison.cases),
        "policy": list(POLICY),
        "rows": rows,
    }
    write_json(output_dir / "comparison.json", content)
    with (
        replacing(output_dir / "comparison.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return content


def _values(
    table: Table, cases: Sequence[str], structure: str, scope: str, measure: str
) -> list[float]:
    return [table.get((case, structure, scope), {}).get(measure, math.nan) for case in cases]


def _macro(
    table: Table, cases: Sequence[str], structures: Sequence[str], scope: str, measure: str
) -> list[float]:
    """Return each patient's mean over structures."""
    values = np.array([_values(table, cases, name, scope, measure) for name in structures])
    counts = (~np.isnan(values)).sum(axis=0)
    means = np.full(len(cases), math.nan)
    np.divide(np.nansum(values, axis=0), counts, out=means, where=counts > 0)
    return [float(mean) for mean in means]


def _better(test: PairedTest, measure: str) -> str:
    if math.isnan(test.p_holm) or test.p_holm >= SIGNIFICANCE:
        return ""
    second_is_larger = test.effect_size > 0
    return "B" if second_is_larger != (measure in SMALLER_IS_BETTER) else "A"
