"""Scores as an evaluation wrote them, read back from its folder."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from heartseg.errors import DataError
from heartseg.evaluation.scores import (
    REQUIRED,
    CaseScores,
    Scores,
    StructureScore,
    collect_scores,
)
from heartseg.files import read_json
from heartseg.labels import LabelTable


@dataclass(frozen=True)
class WrittenEvaluation:
    """What the folder of an evaluation holds.

    Attributes:
        scores: The scores of its cases, to the six decimals of ``cases.csv``.
        summary: The content of ``summary.json``.
    """

    scores: Scores
    summary: Mapping[str, Any]


def read_evaluation(folder: Path, table: LabelTable) -> WrittenEvaluation:
    """Read the scores of an evaluation.

    Args:
        folder: Its folder.
        table: The label map that was scored.

    Raises:
        DataError: If a file is missing, or does not hold the scores of these structures.
    """
    summary = read_json(folder / "summary.json")
    keys = [structure.key for structure in table.structures]
    try:
        missing = set(summary["missing_predictions"])
        tolerance = float(summary["tolerance_mm"])
        rows: dict[str, list[StructureScore]] = {name: [] for name in summary["cases"]}
        for line in _read_table(folder / "cases.csv"):
            rows[line["case"]].append(_read_row(line))
        counts: dict[str, list[list[int]]] = {name: [] for name in rows}
        for line in _read_table(folder / "confusion.csv"):
            counts[line["case"]].append([int(line[key]) for key in keys])
        cases = [
            CaseScores(
                name,
                tuple(scored),
                np.array(counts[name], np.int64).reshape(len(keys), len(keys)),
                has_prediction=name not in missing,
                has_endpoints=any(row.scope == REQUIRED for row in scored),
            )
            for name, scored in rows.items()
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder}: expected the scores of an evaluation of {', '.join(keys[1:])}; found "
            f"other content ({error!r}); run `heartseg evaluate` again with --overwrite"
        ) from error
    return WrittenEvaluation(collect_scores(cases, table, tolerance_mm=tolerance), summary)


def _read_table(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table of scores ({error})") from error


def _read_row(line: Mapping[str, str]) -> StructureScore:
    values: dict[str, Any] = {}
    for field in fields(StructureScore):
        text = line[field.name]
        values[field.name] = text if field.type is str else math.nan if text == "" else float(text)
    return StructureScore(**values)
