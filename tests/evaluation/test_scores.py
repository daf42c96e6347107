import math

import numpy as np

from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.scores import collect_scores
from heartseg.evaluation.scoring import score_case
from heartseg.labels import HVSMR

SPACING_MM = (1.0, 1.5, 2.0)


def block_pair(name, *, endpoints=False):
    """Return a case whose LV is predicted rightly and whose RV is missed."""
    reference = np.zeros((12, 10, 8), np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    reference[6:8, 2:6, 2:6] = 2
    prediction = np.where(reference == 1, 1, 0).astype(np.uint8)
    zones = np.zeros_like(reference) if endpoints else None
    return LabelPair(name, prediction, reference, SPACING_MM, zones)


def collect(*pairs):
    return collect_scores([score_case(pair, HVSMR) for pair in pairs], HVSMR, tolerance_mm=2.0)


def test_cases_are_in_natural_order():
    scores = collect(block_pair("pat10"), block_pair("pat2"))

    assert [case.case for case in scores.cases] == ["pat2", "pat10"]
    # Eight structures and the whole heart.
    assert len(scores.rows) == 2 * 9


def test_the_macro_average_leaves_out_absent_structures_and_the_whole_heart():
    (case,) = collect(block_pair("pat1")).cases

    # LV 1, RV 0, six absent; the whole heart would be 128 / (64 + 96).
    assert case.macro("dice") == 0.5


def test_a_case_without_structures_has_no_macro_average():
    empty = np.zeros((4, 5, 6), np.uint8)

    (case,) = collect(LabelPair("pat1", empty, empty, SPACING_MM)).cases

    assert math.isnan(case.macro("dice"))


def test_the_required_scope_exists_if_one_case_has_endpoints():
    assert collect(block_pair("pat1")).scopes == ("full",)
    with_endpoints = collect(block_pair("pat1"), block_pair("pat2", endpoints=True))
    assert with_endpoints.scopes == ("full", "required")
    assert [row.case for row in with_endpoints.column("LV", scope="required")] == ["pat2"]


def test_named_cases_are_selected_and_others_dropped():
    scores = collect(block_pair("pat1"), block_pair("pat2"))

    assert [case.case for case in scores.only(["pat2", "pat9"]).cases] == ["pat2"]


def test_cases_without_prediction_are_listed():
    pair = block_pair("pat1")
    missed = LabelPair("pat3", None, pair.reference, SPACING_MM)

    assert collect(pair, missed).missing_predictions == ("pat3",)


def test_no_cases_have_no_rows():
    assert collect().rows == []
