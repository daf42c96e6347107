"""Scoring of one case, and the rules for structures that one or both label maps lack."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from heartseg.evaluation.label_pair import Grid, LabelPair, Masks, StructureMasks
from heartseg.evaluation.overlap import confusion_matrix, overlap_of_counts
from heartseg.evaluation.scores import (
    ABSENT,
    FALSE_ALARM,
    FULL,
    MISSED,
    REQUIRED,
    WHOLE_HEART,
    CaseScores,
    StructureScore,
)
from heartseg.labels import LabelTable
from heartseg.surfaces.distances import surface_distances


def score_case(pair: LabelPair, table: LabelTable, *, tolerance_mm: float = 2.0) -> CaseScores:
    """Score every structure of one case in every scope.

    Args:
        pair: The label maps.
        table: The structures.
        tolerance_mm: Distance within which surfaces count as equal.

    Returns:
        Rows for each structure and the whole heart: in full, and, if the pair has endpoints,
        without the endpoint zones.

    Raises:
        ValueError: If arrays differ in shape, are not 3D, or hold unknown labels.
    """
    pair = pair.in_memory_order()
    grid, maps = Grid.of(pair), StructureMasks.of(pair)
    confusion = confusion_matrix(maps.prediction, maps.reference, table.num_classes)
    values: dict[str, int | None] = {s.key: s.value for s in table.foreground}
    values[WHOLE_HEART] = None
    score = partial(_score_masks, grid=grid, tolerance_mm=tolerance_mm, case=pair.case)
    rows = [
        score(maps.full(value), structure=structure, scope=FULL)
        for structure, value in values.items()
    ]
    if pair.endpoints is not None:
        rows += [_score_required(row, maps.required(values[row.structure]), score) for row in rows]
    return CaseScores(
        pair.case,
        tuple(rows),
        confusion,
        has_prediction=pair.prediction is not None,
        has_endpoints=pair.endpoints is not None,
    )


def _score_required(
    full: StructureScore, masks: Masks | None, score: Callable[..., StructureScore]
) -> StructureScore:
    if masks is None:
        # No voxel of the structure is in its zone: both scopes have the same scores.
        return replace(full, scope=REQUIRED)
    return score(masks, structure=full.structure, scope=REQUIRED)


def _score_masks(
    masks: Masks, *, grid: Grid, tolerance_mm: float, case: str, structure: str, scope: str
) -> StructureScore:
    prediction, reference = masks
    shared, in_prediction, in_reference = (
        int(np.count_nonzero(mask)) for mask in (prediction & reference, prediction, reference)
    )
    overlap = overlap_of_counts(shared=shared, prediction=in_prediction, reference=in_reference)
    flag = _choose_flag(in_prediction, in_reference)
    hd95_mm, assd_mm, nsd = _compare_surfaces(masks, flag, grid, tolerance_mm)
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


def _choose_flag(in_prediction: int, in_reference: int) -> str:
    if in_prediction and in_reference:
        return ""
    if in_prediction:
        return FALSE_ALARM
    return MISSED if in_reference else ABSENT


def _compare_surfaces(
    masks: Masks, flag: str, grid: Grid, tolerance_mm: float
) -> tuple[float, float, float]:
    """Return HD95, ASSD and NSD; the worst values if only one mask has a surface."""
    if flag == ABSENT:
        return math.nan, math.nan, math.nan
    if flag:
        return grid.diagonal_mm, grid.diagonal_mm, 0.0
    distances = surface_distances(*masks, spacing_mm=grid.spacing_mm, axes_mm=grid.axes_mm)
    return distances.percentile_mm(95), distances.average_mm(), distances.dice_at(tolerance_mm)
