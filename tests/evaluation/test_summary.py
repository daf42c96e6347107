import json

import numpy as np
import pytest

from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.scores import collect_scores
from heartseg.evaluation.scoring import score_case
from heartseg.evaluation.summary import Context, build_summary
from heartseg.labels import HVSMR


def block(*values):
    labels = np.zeros((8, 8, 8), np.uint8)
    for value in values:
        labels[value : value + 1, 2:4, 2:4] = value
    return labels


PAIRS = [
    LabelPair("pat1", block(1, 2), block(1, 2), (1, 1, 1)),
    LabelPair("pat2", block(1, 2), block(1), (1, 1, 1), block(1)),  # false alarm of the RV
    LabelPair("pat3", block(1), block(1), (1, 1, 1)),  # no RV
    LabelPair("pat4", None, block(1, 2), (1, 1, 1)),  # no prediction
]


def score(pairs):
    return collect_scores([score_case(pair, HVSMR) for pair in pairs], HVSMR, tolerance_mm=2.0)


@pytest.fixture(scope="module")
def summary():
    context = Context(
        warnings=("a warning",),
        groups={"category": {"severe": ["pat1", "pat9"], "mild": ["pat2", "pat3"], "none": []}},
        num_resamples=200,
    )
    return build_summary(score(PAIRS), context)


def test_absent_missed_and_false_alarms_are_counted(summary):
    row = summary["scopes"]["full"]["structures"]["RV"]

    assert (row["n"], row["absent"], row["false_alarms"], row["missed"]) == (3, 1, 1, 1)
    # 1 for pat1, 0 for the false alarm and 0 for the missed one; pat3 is not included.
    assert row["dice"]["mean"] == pytest.approx(1 / 3)
    assert row["dice"]["n"] == 3
    assert row["dice"]["median"] == 0
    assert summary["missing_predictions"] == ["pat4"]


def test_a_macro_average_is_over_structures_then_patients(summary):
    macro = summary["scopes"]["full"]["macro"]["dice"]

    # pat1 1, pat2 (1 + 0) / 2, pat3 1, pat4 0
    assert macro["mean"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert macro["n"] == 4


def test_only_cases_with_endpoints_have_the_required_scope(summary):
    row = summary["scopes"]["required"]["structures"]["LV"]

    assert (row["n"], row["absent"]) == (0, 1)
    assert row["dice"] == {
        "n": 0,
        "mean": None,
        "sd": None,
        "median": None,
        "q1": None,
        "q3": None,
        "ci95_low": None,
        "ci95_high": None,
    }
    assert summary["scopes"]["required"]["structures"]["RV"]["false_alarms"] == 1


def test_groups_are_summarised_where_they_have_cases(summary):
    groups = summary["groups"]["category"]

    assert set(groups) == {"severe", "mild"}
    assert groups["severe"]["num_cases"] == 1
    assert groups["mild"]["scopes"]["full"]["macro"]["dice"]["mean"] == pytest.approx(0.75)


def test_the_summary_is_strict_json_with_the_policy_in_words(summary):
    text = json.dumps(summary, allow_nan=False)

    assert "never counts as 1" in text
    assert summary["warnings"] == ["a warning"]


def test_no_cases_at_all_give_an_empty_summary():
    summary = build_summary(score([]), Context())

    assert summary["num_cases"] == 0
    assert summary["scopes"]["full"]["macro"]["dice"]["mean"] is None
