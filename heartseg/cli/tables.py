"""Tables of results on stdout: scores of an evaluation, and comparisons."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from heartseg.cli import console
from heartseg.plurals import counted

if TYPE_CHECKING:
    from heartseg.evaluation.comparison import Comparison

NAMES = {"whole_heart": "whole heart", "macro": "macro average"}
"""What rows are called where people read them, by their keys in files."""


def show_scores(summary: Mapping[str, Any], output_dir: Path) -> None:
    """Print the table of an evaluation, and the folder of its files."""
    from heartseg.evaluation.statistics import FEWEST_FOR_INTERVAL

    for scope, scores in summary["scopes"].items():
        rows = [
            (NAMES.get(key, key), str(entry["n"]), str(entry["absent"]), *_format_means(entry))
            for key, entry in scores["structures"].items()
        ]
        macro = scores["macro"]
        rows.append((NAMES["macro"], str(macro["dice"]["n"]), "", *_format_means(macro)))
        _show_table(
            f"Means over {counted(summary['num_cases'], 'case')}, scope {scope}",
            ("structure", "n", "absent", "Dice", "95 % interval", "HD95 mm", "ASSD mm"),
            rows,
        )
        if any("*" in cell for row in rows for cell in row):
            console.say(
                f"* unreliable: an interval from fewer than {FEWEST_FOR_INTERVAL} patients is too "
                "narrow"
            )
    console.say(f"tables and report in {output_dir}")


def show_comparison(comparison: "Comparison", output_dir: Path | None) -> None:
    """Print the tests of two runs for Dice, one table per scope, and the folder of the files."""
    for scope in dict.fromkeys(row.scope for row in comparison.rows):
        rows = [
            (
                NAMES.get(row.structure, row.structure),
                str(row.test.n),
                _format(row.test.mean_a, 3),
                _format(row.test.mean_b, 3),
                _format_interval(row.test.ci95_low, row.test.ci95_high, 3),
                _format(row.test.p_holm, 4),
                _format(row.test.effect_size, 2),
                row.better or "-",
            )
            for row in comparison.rows
            if row.scope == scope and row.measure == "dice"
        ]
        _show_table(
            f"Dice over {counted(len(comparison.cases), 'case')} that both runs scored, scope "
            f"{scope}",
            ("structure", "n", "A", "B", "B - A, 95 %", "p (Holm)", "effect", "better"),
            rows,
        )
    if output_dir is not None:
        console.say(f"tables in {output_dir}")


def _format_means(entry: Mapping[str, Mapping[str, float | None]]) -> tuple[str, ...]:
    """Format the means of a row, with a dash where there is no value."""
    dice, hd95, assd = entry["dice"], entry["hd95_mm"], entry["assd_mm"]
    return (
        _format(dice["mean"], 3),
        _format_interval(dice["ci95_low"], dice["ci95_high"], 2) + _doubt(dice),
        _format(hd95["mean"], 1),
        _format(assd["mean"], 1),
    )


def _format_interval(low: float | None, high: float | None, digits: int) -> str:
    if _format(low, digits) == "-":
        return "-"
    return f"{_format(low, digits)} to {_format(high, digits)}"


def _doubt(measure: Mapping[str, float | None]) -> str:
    """Return the mark of an interval from too few patients."""
    from heartseg.evaluation.statistics import FEWEST_FOR_INTERVAL

    known = _format(measure["ci95_low"], 1) != "-"
    return "*" if known and (measure["n"] or 0) < FEWEST_FOR_INTERVAL else ""


def _format(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.out.print(table)
    for row in (columns, *rows):
        console.log_only("  ".join(row))
