"""Scores of label maps: one row per case, structure and scope."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from heartseg.files import natural_key
from heartseg.labels import LabelTable

FULL = "full"
REQUIRED = "required"
SCOPES = (FULL, REQUIRED)
WHOLE_HEART = "whole_heart"
"""Name, in files, of the rows about the whole heart: all structures taken together."""
WHOLE_HEART_NAME = "whole heart"
MACRO_AVERAGE_NAME = "macro average"
"""What both are called where people read them."""

ABSENT = "absent"
MISSED = "missed"
FALSE_ALARM = "false_alarm"

MACRO = "macro"
"""Structure of the rows of macro averages, in files."""

MEASURES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "precision", "recall")


@dataclass(frozen=True)
class MeasureStyle:
    """How a measure is shown to people.

    Attributes:
        title: Its name, with the unit.
        digits: Decimals of its values.
    """

    title: str
    digits: int


MEASURE_STYLES = {
    "dice": MeasureStyle("Dice", 3),
    "iou": MeasureStyle("IoU", 3),
    "hd95_mm": MeasureStyle("HD95 (mm)", 1),
    "assd_mm": MeasureStyle("ASSD (mm)", 2),
    "nsd": MeasureStyle("NSD", 3),
    "precision": MeasureStyle("precision", 3),
    "recall": MeasureStyle("recall", 3),
    "volume_prediction_ml": MeasureStyle("volume, predicted (mL)", 1),
    "volume_reference_ml": MeasureStyle("volume, reference (mL)", 1),
    "volume_difference_ml": MeasureStyle("volume difference (mL)", 1),
}
"""All that is summarised over patients: measures and volumes."""


@dataclass(frozen=True)
class StructureScore:
    """One row of the table: the scores of one structure of one case in one scope.

    Attributes:
        case: Name of the case.
        structure: Key of the structure, or ``whole_heart``.
        dice: Dice coefficient. It is NaN where both maps lack the structure, as all measures are.
        iou: Jaccard index.
        hd95_mm: 95th percentile of the surface distances, the larger of both directions.
        assd_mm: Average symmetric surface distance.
        nsd: Normalised surface Dice at the tolerance.
        volume_prediction_ml: Volume in the prediction.
        volume_reference_ml: Volume in the reference.
        scope: ``full``, or ``required`` without the endpoint zones.
        precision: Fraction of the prediction that is right; NaN where nothing is predicted.
        recall: Fraction of the reference that is found; NaN where the reference is empty.
        volume_difference_ml: Prediction minus reference.
        flag: ``absent`` from both maps, ``missed``, ``false_alarm``, or empty.
    """

    case: str
    structure: str
    dice: float
    iou: float
    hd95_mm: float
    assd_mm: float
    nsd: float
    volume_prediction_ml: float
    volume_reference_ml: float
    scope: str
    precision: float
    recall: float
    volume_difference_ml: float
    flag: str


COLUMNS = tuple(field.name for field in fields(StructureScore))
"""Columns of ``cases.csv``."""


@dataclass(frozen=True)
class CaseScores:
    """All scores of one case.

    Attributes:
        case: Name of the case.
        rows: One per scope and structure.
        confusion: ``(num_classes, num_classes)`` voxels; rows are reference labels.
        has_prediction: False if there is no prediction, so that all structures count as missed.
        has_endpoints: Whether there are scores for the required scope.
    """

    case: str
    rows: tuple[StructureScore, ...]
    confusion: NDArray[np.int64]
    has_prediction: bool
    has_endpoints: bool

    def macro(self, measure: str, *, scope: str = FULL) -> float:
        """Return the macro average: the mean of a measure over structures, NaN without any."""
        values = [
            getattr(row, measure)
            for row in self.rows
            if row.scope == scope and row.structure != WHOLE_HEART
        ]
        scored = [value for value in values if not math.isnan(value)]
        return sum(scored) / len(scored) if scored else math.nan


@dataclass(frozen=True)
class Scores:
    """The scores of all cases, in natural order of their names.

    Attributes:
        cases: One entry per case.
        table: The label map.
        tolerance_mm: Tolerance of the normalised surface Dice.
    """

    cases: tuple[CaseScores, ...]
    table: LabelTable
    tolerance_mm: float

    @property
    def rows(self) -> list[StructureScore]:
        """All rows of all cases."""
        return [row for case in self.cases for row in case.rows]

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes in which at least one case has scores."""
        return SCOPES if any(case.has_endpoints for case in self.cases) else (FULL,)

    @property
    def structures(self) -> tuple[str, ...]:
        """Keys of the foreground structures."""
        return tuple(structure.key for structure in self.table.foreground)

    @property
    def missing_predictions(self) -> tuple[str, ...]:
        """The cases without a prediction."""
        return tuple(case.case for case in self.cases if not case.has_prediction)

    def column(self, structure: str, *, scope: str = FULL) -> list[StructureScore]:
        """Return the rows of one structure in one scope, one per case."""
        return [row for row in self.rows if row.structure == structure and row.scope == scope]

    def only(self, names: Iterable[str]) -> "Scores":
        """Return the scores of the named cases."""
        wanted = set(names)
        return replace(self, cases=tuple(case for case in self.cases if case.case in wanted))


def collect_scores(
    cases: Sequence[CaseScores], table: LabelTable, *, tolerance_mm: float
) -> Scores:
    """Put the scores of cases together, in natural order of their names."""
    ordered = sorted(cases, key=lambda case: natural_key(case.case))
    return Scores(tuple(ordered), table, tolerance_mm)
