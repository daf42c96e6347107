"""The summary of scores over patients, and how scores are counted, in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from heartseg.evaluation.scores import (
    ABSENT,
    FALSE_ALARM,
    MEASURES,
    MISSED,
    WHOLE_HEART,
    Scores,
)
from heartseg.evaluation.statistics import Summary, summarize

VOLUMES = ("volume_prediction_ml", "volume_reference_ml", "volume_difference_ml")
GROUP_MEASURES = ("dice", "hd95_mm", "nsd")
"""Measures of a group. There may be dozens of groups: all measures of each would hide the few that
matter."""

Groups = Mapping[str, Mapping[str, Sequence[str]]]
"""Cases by group by kind: ``{"category": {"severe": ["pat4", ...]}}``."""

POLICY = (
    "Scores are computed on whole volumes on the grid of the reference, in mm and mL. Background "
    "has no score.",
    "A structure that both label maps lack has no scores (empty cells). It is counted as absent "
    "and is not included in means; it never counts as 1.",
    "A structure that only one label map holds has Dice, IoU and surface Dice 0, and the diagonal "
    "of the image as its distances. It is flagged: missed if only the reference holds it, false "
    "alarm if only the prediction does. It is included in means.",
    "A case without a prediction is scored as if its prediction were empty: every structure of "
    "its reference is missed.",
    "Precision is empty where nothing is predicted, recall where the reference is empty.",
    "Scope full: all voxels. Scope required: for structure v, the voxels of endpoint zone v are "
    "left out in both label maps; for the whole heart, the voxels of any endpoint zone.",
    "Whole heart: all structures counted as one.",
    "Macro average: the mean over the structures for which a patient has scores, then the mean "
    "over patients. The whole heart is not included.",
    "Intervals are 95 % percentile bootstrap intervals of the mean; patients are resampled.",
    "Surfaces are between voxels and are weighted by their area (marching cubes). HD95 is the "
    "larger of the 95th percentiles of both directions; ASSD is the mean distance over the area "
    "of both surfaces; NSD is the fraction of both surfaces within the tolerance of the other.",
)


@dataclass(frozen=True)
class Context:
    """What a summary holds in addition to the scores.

    Attributes:
        warnings: What a reader must know before any figure, such as leaked test patients.
        provenance: Where the scores come from: folders, versions, model.
        unpaired_predictions: Predictions without a reference.
        problems: Cases that could not be scored, with the reason.
        groups: Cases by category, diagnosis and so on; each group has a summary.
        num_resamples: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    warnings: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    unpaired_predictions: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    groups: Groups = field(default_factory=dict)
    num_resamples: int = 2000
    seed: int = 137


def build_summary(scores: Scores, context: Context) -> dict[str, Any]:
    """Summarise scores over patients.

    Args:
        scores: The scores of all cases.
        context: What the summary holds in addition to them.

    Returns:
        Nested dictionaries of strings, numbers and None (no value), ready for JSON.
    """
    return {
        "warnings": list(context.warnings),
        "num_cases": len(scores.cases),
        "cases": [case.case for case in scores.cases],
        "missing_predictions": list(scores.missing_predictions),
        "unpaired_predictions": list(context.unpaired_predictions),
        "problems": list(context.problems),
        "tolerance_mm": scores.tolerance_mm,
        "bootstrap": {
            "resamples": context.num_resamples,
            "seed": context.seed,
            "confidence": 0.95,
            "unit": "patient",
            "method": "percentile interval of the mean",
        },
        "scopes": _summarize_scopes(scores, context, (*MEASURES, *VOLUMES)),
        "groups": {
            kind: {
                name: {
                    "num_cases": len(members.cases),
                    "scopes": _summarize_scopes(members, context, GROUP_MEASURES),
                }
                for name, members in ((name, scores.only(cases)) for name, cases in by_name.items())
                if members.cases
            }
            for kind, by_name in context.groups.items()
        },
        "policy": list(POLICY),
        "provenance": dict(context.provenance),
    }


def _summarize_scopes(scores: Scores, context: Context, measures: Sequence[str]) -> dict[str, Any]:
    return {
        scope: {
            "structures": {
                structure: _summarize_structure(scores, structure, scope, context, measures)
                for structure in (*scores.structures, WHOLE_HEART)
            },
            "macro": {
                measure: _as_dict(
                    summarize(
                        [case.macro(measure, scope=scope) for case in scores.cases],
                        num_resamples=context.num_resamples,
                        seed=context.seed,
                    )
                )
                for measure in measures
                if measure not in VOLUMES
            },
        }
        for scope in scores.scopes
    }


def _summarize_structure(
    scores: Scores, structure: str, scope: str, context: Context, measures: Sequence[str]
) -> dict[str, Any]:
    rows = scores.column(structure, scope=scope)
    flags = [row.flag for row in rows]
    # Volumes of 0 mL in both maps would pull the mean volumes and differences towards 0.
    scored = [row for row in rows if row.flag != ABSENT]
    return {
        "n": len(scored),
        "absent": flags.count(ABSENT),
        "false_alarms": flags.count(FALSE_ALARM),
        "missed": flags.count(MISSED),
        **{
            measure: _as_dict(
                summarize(
                    [getattr(row, measure) for row in scored],
                    num_resamples=context.num_resamples,
                    seed=context.seed,
                )
            )
            for measure in measures
        },
    }


def _as_dict(summary: Summary) -> dict[str, Any]:
    return finite(asdict(summary))


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity by None, since JSON has neither."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
