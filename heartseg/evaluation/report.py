"""The files of an evaluation: ``cases.csv``, ``summary.json`` and ``report.html``."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heartseg.evaluation.scoring import COLUMNS, Scores, StructureScore
from heartseg.evaluation.summary import Context, build_summary
from heartseg.files import replacing


def write_evaluation(output_dir: Path, scores: Scores, context: Context) -> dict[str, Any]:
    """Write the scores of an evaluation and their report.

    Args:
        output_dir: Folder of the files; made if missing.
        scores: The scores of all cases.
        context: What is reported beside them.

    Returns:
        The summary, as it stands in ``summary.json``.

    Raises:
        DataError: If a file cannot be written.
    """
    summary = build_summary(scores, context)
    write_cases(output_dir / "cases.csv", scores.rows)
    with replacing(output_dir / "summary.json") as temporary:
        temporary.write_text(
            json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
    return summary


def write_cases(file: Path, rows: Sequence[StructureScore]) -> None:
    """Write one line a case, structure and scope; what has no value is an empty cell.

    Raises:
        DataError: If the file cannot be written.
    """
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(row, column)) for column in COLUMNS] for row in rows)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.6f}"
