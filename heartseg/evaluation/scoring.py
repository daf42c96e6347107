"""Scores of label maps: every case, structure and scope, with the policy for what is absent."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from heartseg.evaluation.overlap import confusion_matrix, overlap_of_counts
from heartseg.files import natural_key
from heartseg.labels import LabelTable
from heartseg.surfaces.distances import surface_distances

FULL = "full"
REQUIRED = "required"
SCOPES = (FULL, REQUIRED)
WHOLE_HEART = "whole_heart"
"""Row of all structures taken as one."""

ABSENT = "absent"
MISSED = "missed"
FALSE_ALARM = "false_alarm"

MEASURES = ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "precision", "recall")
_NAN = float("nan")


@dataclass(frozen=True)
class LabelPair:
    """What is scored: the prediction and the reference of one case, on one grid.

    Attributes:
        case: Name of the case.
        prediction: ``(X, Y, Z)`` label map; None if there is none, which counts as empty.
        reference: ``(X, Y, Z)`` label map.
        spacing_mm: Distance of neighbouring voxels along each array axis.
        endpoints: ``(X, Y, Z)`` map whose value v marks the optional zone of structure v.
    """

    case: str
    prediction: NDArray[np.integer] | None
    reference: NDArray[np.integer]
    spacing_mm: ArrayLike
    endpoints: NDArray[np.integer] | None = None


@dataclass(frozen=True)
class StructureScore:
    """One row of the table: the scores of one structure of one case in one scope.

    Attributes:
        case: Name of the case.
        structure: Key of the structure, or ``whole_heart``.
        dice: Dice coefficient; NaN where both maps lack the structure, as for all measures.
        iou: Jaccard index.
        hd95_mm: 95th percentile of the surface distances, the larger of both directions.
        assd_mm: Average symmetric surface distance.
        nsd: Normalised surface Dice at the tolerance.
        volume_prediction_ml: Volume in the prediction.
        volume_reference_ml: Volume in the reference.
        scope: ``full``, or ``required`` with the endpoint zones left out.
        precision: Share of the prediction that is right; NaN where nothing is predicted.
        recall: Share of the reference that is found; NaN where there is nothing to find.
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
        rows: One a scope and structure.
        confusion: ``(num_classes, num_classes)`` voxels; rows are reference labels.
        has_prediction: False if the case was scored as missed.
        has_endpoints: Whether the required scope could be scored.
    """

    case: str
    rows: tuple[StructureScore, ...]
    confusion: NDArray[np.int64]
    has_prediction: bool
    has_endpoints: bool

    def macro(self, measure: str, *, scope: str = FULL) -> float:
        """Return the mean of a measure over the case's structures, NaN without any."""
        values = [
            getattr(row, measure)
            for row in self.rows
            if row.scope == scope and row.structure != WHOLE_HEART
        ]
        return _mean(values)


@dataclass(frozen=True)
class Scores:
    """The scores of all cases, in natural order of their names.

    Attributes:
        cases: One entry a case.
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
        """The scopes that at least one case was scored in."""
        return SCOPES if any(case.has_endpoints for case in self.cases) else (FULL,)

    @property
    def structures(self) -> tuple[str, ...]:
        """Keys of the foreground structures."""
        return tuple(structure.key for structure in self.table.foreground)

    @property
    def missing_predictions(self) -> tuple[str, ...]:
        """The cases that no prediction was found for."""
        return tuple(case.case for case in self.cases if not case.has_prediction)

    def column(self, structure: str, *, scope: str = FULL) -> list[StructureScore]:
        """Return the rows of one structure in one scope, one a case."""
        return [row for row in self.rows if row.structure == structure and row.scope == scope]

    def only(self, names: Iterable[str]) -> "Scores":
        """Return the scores of some cases."""
        wanted = set(names)
        return replace(self, cases=tuple(case for case in self.cases if case.case in wanted))


def score_cases(
    pairs: Iterable[LabelPair], table: LabelTable, *, tolerance_mm: float = 2.0
) -> Scores:
    """Score pairs one after the other; only one is held at a time if ``pairs`` is lazy.

    Args:
        pairs: The label maps.
        table: The structures.
        tolerance_mm: Distance within which surfaces count as equal.

    Returns:
        The scores.

    Raises:
        ValueError: If arrays of a pair differ in shape or hold unknown labels.
    """
    return collect_scores(
        [score_case(pair, table, tolerance_mm=tolerance_mm) for pair in pairs],
        table,
        tolerance_mm=tolerance_mm,
    )


def collect_scores(
    cases: Sequence[CaseScores], table: LabelTable, *, tolerance_mm: float
) -> Scores:
    """Put the scores of cases together, for callers that score in parallel."""
    ordered = sorted(cases, key=lambda case: natural_key(case.case))
    return Scores(tuple(ordered), table, tolerance_mm)


def score_case(pair: LabelPair, table: LabelTable, *, tolerance_mm: float = 2.0) -> CaseScores:
    """Score every structure of one case in every scope.

    Args:
        pair: The label maps.
        table: The structures.
        tolerance_mm: Distance within which surfaces count as equal.

    Returns:
        Rows for each structure and the whole heart: in full, and, if the pair has endpoints,
        with the endpoint zones left out.

    Raises:
        ValueError: If arrays differ in shape, are not 3D, or hold unknown labels.
    """
    pair = _along_memory(pair)
    grid = _Grid.of(pair.reference.shape, pair.spacing_mm)
    maps = _Maps.of(pair)
    confusion = confusion_matrix(maps.prediction, maps.reference, table.num_classes)
    wanted = [(s.key, s.value) for s in table.foreground]
    rows: list[StructureScore] = []
    for scope in SCOPES if maps.endpoints is not None else (FULL,):
        for key, value in [*wanted, (WHOLE_HEART, None)]:
            masks = maps.masks(value, scope=scope)
            if scope == REQUIRED and masks is None:
                # No voxel of the structure lies in its zone: both scopes are the same.
                same = next(row for row in rows if row.structure == key)
                rows.append(replace(same, scope=scope))
                continue
            rows.append(
                _score_masks(
                    masks or (_EMPTY, _EMPTY),
                    grid,
                    tolerance_mm,
                    case=pair.case,
                    structure=key,
                    scope=scope,
                )
            )
    return CaseScores(
        pair.case,
        tuple(rows),
        confusion,
        has_prediction=pair.prediction is not None,
        has_endpoints=pair.endpoints is not None,
    )


def _along_memory(pair: LabelPair) -> LabelPair:
    """Return the pair with its axes in the order in which its arrays lie in memory.

    NIfTI arrays have the first axis fastest. No measure depends on the order of the axes, and
    walking through memory in its own order is several times faster.
    """
    turned = pair.reference.flags.f_contiguous

    def lay(labels: NDArray[np.integer]) -> NDArray[np.integer]:
        return np.ascontiguousarray(labels.T if turned else labels)

    return replace(
        pair,
        prediction=None if pair.prediction is None else lay(pair.prediction),
        reference=lay(pair.reference),
        endpoints=None if pair.endpoints is None else lay(pair.endpoints),
        spacing_mm=np.flip(pair.spacing_mm) if turned else pair.spacing_mm,
    )


_EMPTY = np.zeros((0, 0, 0), np.bool_)
_Box = tuple[slice, ...]


@dataclass(frozen=True)
class _Grid:
    spacing_mm: tuple[float, ...]
    voxel_ml: float
    diagonal_mm: float

    @classmethod
    def of(cls, shape: tuple[int, ...], spacing_mm: ArrayLike) -> "_Grid":
        spacing = np.asarray(spacing_mm, np.float64)
        if spacing.shape != (3,) or len(shape) != 3 or not (spacing > 0).all():
            raise ValueError(
                f"expected 3D label maps and 3 positive spacings, got the shape {shape} "
                f"and the spacing {spacing.tolist()}"
            )
        return cls(
            tuple(spacing.tolist()),
            voxel_ml=float(spacing.prod()) / 1000,
            diagonal_mm=float(np.linalg.norm(spacing * shape)),
        )


@dataclass(frozen=True)
class _Maps:
    """The label maps of a case, and the box of each structure in either of them."""

    prediction: NDArray[np.integer]
    reference: NDArray[np.integer]
    endpoints: NDArray[np.integer] | None
    boxes: dict[int, _Box]

    @classmethod
    def of(cls, pair: LabelPair) -> "_Maps":
        reference = pair.reference
        prediction = np.zeros_like(reference) if pair.prediction is None else pair.prediction
        for name, other in (("prediction", prediction), ("endpoints", pair.endpoints)):
            if other is not None and other.shape != reference.shape:
                raise ValueError(
                    f"{name}: expected the shape {reference.shape} of the reference, "
                    f"got {other.shape}"
                )
        found = [_boxes(labels) for labels in (prediction, reference)]
        boxes = {
            value: _joint_box(*(boxes.get(value) for boxes in found))
            for value in set(found[0]) | set(found[1])
        }
        return cls(prediction, reference, pair.endpoints, boxes)

    def masks(
        self, value: int | None, *, scope: str
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Return the masks of a structure (None: of all) in both maps, cropped to it.

        Returns None if neither map holds it, or if the required scope changes nothing.
        """
        if value is None:
            box = _joint_box(*self.boxes.values())
            prediction, reference = self.prediction[box] > 0, self.reference[box] > 0
            inside = None if self.endpoints is None else self.endpoints[box] > 0
        elif value in self.boxes:
            box = self.boxes[value]
            prediction, reference = self.prediction[box] == value, self.reference[box] == value
            inside = None if self.endpoints is None else self.endpoints[box] == value
        else:
            return None
        if scope == FULL or inside is None:
            return prediction, reference
        if not (inside & (prediction | reference)).any():
            return None
        return prediction & ~inside, reference & ~inside


def _boxes(labels: NDArray[np.integer]) -> dict[int, _Box]:
    found = ndimage.find_objects(labels)
    return {value: box for value, box in enumerate(found, 1) if box is not None}


def _joint_box(*boxes: _Box | None) -> _Box:
    """Return the smallest box around some boxes; an empty one without any."""
    given = [box for box in boxes if box is not None]
    if not given:
        return (slice(0, 0),) * 3
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*given, strict=True)
    )


def _score_masks(
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    grid: _Grid,
    tolerance_mm: float,
    *,
    case: str,
    structure: str,
    scope: str,
) -> StructureScore:
    prediction, reference = masks
    shared, in_prediction, in_reference = (
        int(np.count_nonzero(mask)) for mask in (prediction & reference, prediction, reference)
    )
    overlap = overlap_of_counts(shared=shared, prediction=in_prediction, reference=in_reference)
    if in_prediction and in_reference:
        flag = ""
        distances = surface_distances(prediction, reference, spacing_mm=grid.spacing_mm)
        hd95_mm = distances.percentile_mm(95)
        assd_mm, nsd = distances.average_mm(), distances.dice_at(tolerance_mm)
    elif in_prediction or in_reference:
        flag = FALSE_ALARM if in_prediction else MISSED
        hd95_mm = assd_mm = grid.diagonal_mm
        nsd = 0.0
    else:
        flag = ABSENT
        hd95_mm = assd_mm = nsd = _NAN
    return StructureScore(
        case=case,
        structure=structure,
        dice=overlap.dice,
        iou=overlap.iou,
        hd95_mm=hd95_mm,
        assd_mm=assd_mm,
        nsd=nsd,
        volume_prediction_ml=in_prediction * grid.voxel_ml,
        volume_reference_ml=in_reference * grid.voxel_ml,
        scope=scope,
        precision=overlap.precision,
        recall=overlap.recall,
        volume_difference_ml=(in_prediction - in_reference) * grid.voxel_ml,
        flag=flag,
    )


def _mean(values: Iterable[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else _NAN
