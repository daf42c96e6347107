"""The comparison of two evaluations of the same patients, structure by structure."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from heartseg.errors import DataError
from heartseg.evaluation.scores import MACRO, WHOLE_HEART
from heartseg.evaluation.statistics import PairedTest, compare_paired, correct_by_holm
from heartseg.evaluation.summary import finite
from heartseg.files import natural_key, replacing, write_json

COMPARED = ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
REFERENCE = "volume_reference_ml"
SMALLER_IS_BETTER = ("hd95_mm", "assd_mm")
SIGNIFICANCE = 0.05
MIN_PATIENTS = 6
"""With fewer, the smallest possible p of Wilcoxon's test is above ``SIGNIFICANCE``."""

POLICY = (
    "Each patient is compared with itself: a patient counts for a structure if both runs have a "
    "score for it. A structure that only one label map holds has a score (Dice 0), so it counts.",
    "p is that of Wilcoxon's two-sided signed-rank test. p_holm is corrected by Holm's method over "
    "the structures of one measure and scope; the macro average and the whole heart are one test "
    "each.",
    "The effect size is the matched-pairs rank-biserial correlation: 1 if the second run's values "
    "are larger for every patient, -1 if they are smaller. For HD95 and ASSD, smaller is better.",
    "Intervals are 95 % percentile bootstrap intervals of the mean difference (second minus "
    "first); patients are resampled.",
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
        rows: One per scope, measure and structure.
        cases: The cases that both runs scored.
        warnings: What a reader must know, such as the cases that only one run scored.
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
    needed = {"case", "structure", "scope", *COMPARED, REFERENCE}
    if not rows or not needed <= rows[0].keys():
        raise DataError(
            f"{file}: expected a table of scores with the columns {', '.join(sorted(needed))}; "
            "name an evaluation of heartseg"
        )
    table: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        key = (row["case"], row["structure"], row["scope"])
        if key in table:
            raise DataError(f"{file}: {' '.join(key)} occurs twice")
        try:
            table[key] = {
                name: math.nan if row[name] == "" else float(row[name])
                for name in (*COMPARED, REFERENCE)
            }
        except (TypeError, ValueError) as error:
            raise DataError(f"{file}: {' '.join(key)}: expected numbers ({error})") from error
    return table


def check_comparable(first: Table, second: Table) -> None:
    """Make sure that two evaluations scored the same references in the same scopes.

    Args:
        first: Scores of run A.
        second: Scores of run B.

    Raises:
        DataError: If they did not: their differences would say nothing about the runs.
    """
    scopes = [{scope for _, _, scope in table} for table in (first, second)]
    if scopes[0] != scopes[1]:
        found = " and ".join(", ".join(sorted(names)) for names in scopes)
        raise DataError(
            f"expected evaluations of the same scopes, found {found}; score both runs with the "
            "same endpoint maps"
        )
    for key in first.keys() & second.keys():
        volumes = [table[key][REFERENCE] for table in (first, second)]
        if not math.isclose(*volumes, rel_tol=1e-3, abs_tol=1e-3) and not all(
            map(math.isnan, volumes)
        ):
            case, structure, scope = key
            raise DataError(
                f"expected evaluations against the same references, but {structure} of {case} "
                f"(scope {scope}) has {volumes[0]:g} mL in one and {volumes[1]:g} mL in the other; "
                "score both runs against the same label maps"
            )


def compare_tables(
    first: Table, second: Table, *, num_resamples: int = 2000, seed: int = 137
) -> Comparison:
    """Compare two tables of scores patient by patient.

    Args:
        first: Scores of run A.
        second: Scores of run B.
        num_resamples: Bootstrap resamples per interval.
        seed: Seed of the bootstrap.

    Returns:
        The tests, with Holm's correction over structures.

    Raises:
        DataError: If the runs have no case in common.
    """
    cases, warnings = _match_cases(first, second)
    shared = [key for key in first if key in second]
    pair = _Pair(
        first,
        second,
        cases,
        tuple(dict.fromkeys(name for _, name, _ in shared if name != WHOLE_HEART)),
        num_resamples,
        seed,
    )
    rows = [
        row
        for scope in dict.fromkeys(scope for _, _, scope in shared)
        for measure in COMPARED
        for row in pair.compare(scope, measure)
    ]
    return Comparison(tuple(rows), cases, warnings)


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
    _write_rows(output_dir / "comparison.csv", rows)
    return content


def _write_rows(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _match_cases(first: Table, second: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the cases of both tables in natural order, and warnings about the others.

    Raises:
        DataError: If there is no such case.
    """
    in_first, in_second = ({case for case, _, _ in table} for table in (first, second))
    cases = tuple(sorted(in_first & in_second, key=natural_key))
    if not cases:
        raise DataError(
            "the two runs have no case in common, so there is nothing to compare; name two "
            "evaluations of the same patients"
        )
    warnings = [
        f"Only run {run} scored {', '.join(sorted(others, key=natural_key))}: not compared."
        for run, others in (("A", in_first - in_second), ("B", in_second - in_first))
        if others
    ]
    if len(cases) < MIN_PATIENTS:
        warnings.append(
            f"Too few patients for a significant difference: Wilcoxon's test needs at least "
            f"{MIN_PATIENTS} for p < {SIGNIFICANCE}, found {len(cases)}."
        )
    return cases, tuple(warnings)


@dataclass(frozen=True)
class _Pair:
    """Two tables of scores and what is compared of them."""

    first: Table
    second: Table
    cases: tuple[str, ...]
    structures: tuple[str, ...]
    num_resamples: int
    seed: int

    def compare(self, scope: str, measure: str) -> list[ComparisonRow]:
        """Test one measure of all structures, the whole heart and the macro average."""
        columns = [self._columns(table, scope, measure) for table in (self.first, self.second)]
        tests = {
            structure: compare_paired(
                columns[0][structure],
                columns[1][structure],
                num_resamples=self.num_resamples,
                seed=self.seed,
            )
            for structure in columns[0]
        }
        adjusted = correct_by_holm([tests[structure].p for structure in self.structures])
        corrected = dict(zip(self.structures, adjusted, strict=True))
        rows = []
        for structure, test in tests.items():
            test = replace(test, p_holm=corrected.get(structure, test.p))
            rows.append(ComparisonRow(structure, scope, measure, _better(test, measure), test))
        return rows

    def _columns(self, table: Table, scope: str, measure: str) -> dict[str, list[float]]:
        """Return each patient's value by structure, NaN where there is none."""
        columns = {
            structure: [
                table.get((case, structure, scope), {}).get(measure, math.nan)
                for case in self.cases
            ]
            for structure in (*self.structures, WHOLE_HEART)
        }
        return {**columns, MACRO: self._macro_averages(columns)}

    def _macro_averages(self, columns: Mapping[str, Sequence[float]]) -> list[float]:
        """Return each patient's mean over structures, NaN where there is no value."""
        values = np.array([columns[structure] for structure in self.structures])
        counts = (~np.isnan(values)).sum(axis=0)
        means = np.full(len(self.cases), math.nan)
        np.divide(np.nansum(values, axis=0), counts, out=means, where=counts > 0)
        return [float(mean) for mean in means]


def _better(test: PairedTest, measure: str) -> str:
    if math.isnan(test.p_holm) or test.p_holm >= SIGNIFICANCE:
        return ""
    second_is_larger = test.effect_size > 0
    return "B" if second_is_larger != (measure in SMALLER_IS_BETTER) else "A"
