import math

import numpy as np
import pytest

from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.scores import COLUMNS
from heartseg.evaluation.scoring import score_case
from heartseg.labels import HVSMR

SPACING_MM = (1.0, 1.5, 2.0)
SHAPE = (12, 10, 8)


def empty():
    return np.zeros(SHAPE, np.uint8)


def row_of(case, structure, scope="full"):
    (row,) = [row for row in case.rows if (row.structure, row.scope) == (structure, scope)]
    return row


def score(prediction, reference, endpoints=None, **options):
    pair = LabelPair("pat1", prediction, reference, SPACING_MM, endpoints)
    return score_case(pair, HVSMR, **options)


def test_a_block_shifted_by_a_voxel_scores_as_counted_by_hand():
    reference, prediction = empty(), empty()
    reference[2:6, 2:6, 2:6] = 1
    prediction[3:7, 2:6, 2:6] = 1  # 64 voxels each, 48 shared; a voxel has 3 mm3

    row = row_of(score(prediction, reference, tolerance_mm=1.0), "LV")

    assert (row.dice, row.iou) == (0.75, 48 / 80)
    assert (row.precision, row.recall) == (0.75, 0.75)
    assert row.volume_prediction_ml == row.volume_reference_ml == pytest.approx(0.192)
    assert row.volume_difference_ml == 0
    assert row.hd95_mm == 1.0
    assert 0 < row.assd_mm < 1
    assert row.nsd == 1
    assert row.flag == ""


def test_a_structure_that_both_maps_lack_has_no_scores():
    reference = empty()
    reference[2:4, 2:4, 2:4] = 1

    row = row_of(score(reference, reference), "RV")

    assert row.flag == "absent"
    for name in ("dice", "iou", "hd95_mm", "assd_mm", "nsd", "precision", "recall"):
        assert math.isnan(getattr(row, name))
    assert row.volume_prediction_ml == row.volume_reference_ml == 0


@pytest.mark.parametrize(("is_missed", "flag"), [(True, "missed"), (False, "false_alarm")])
def test_a_structure_in_one_map_only_has_the_worst_scores(is_missed, flag):
    structure = empty()
    structure[2:4, 2:4, 2:4] = 2
    maps = (empty(), structure) if is_missed else (structure, empty())

    row = row_of(score(*maps), "RV")

    assert row.flag == flag
    assert (row.dice, row.iou, row.nsd) == (0, 0, 0)
    diagonal_mm = math.hypot(12 * 1.0, 10 * 1.5, 8 * 2.0)
    assert row.hd95_mm == row.assd_mm == pytest.approx(diagonal_mm)
    assert (math.isnan(row.precision), math.isnan(row.recall)) == (is_missed, not is_missed)


def test_a_case_without_prediction_counts_as_missed():
    reference = empty()
    reference[2:4, 2:4, 2:4] = 3

    case = score(None, reference)

    assert not case.has_prediction
    assert row_of(case, "LA").flag == "missed"
    assert row_of(case, "RA").flag == "absent"
    assert row_of(case, "whole_heart").dice == 0


def test_the_whole_heart_counts_all_structures_as_one():
    reference = empty()
    reference[2:6, 2:6, 2:6] = 1
    prediction = np.where(reference, 2, 0).astype(np.uint8)

    case = score(prediction, reference)

    assert row_of(case, "whole_heart").dice == 1
    assert row_of(case, "LV").flag == "missed"
    assert case.confusion[1, 2] == 64
    assert case.confusion.sum() == reference.size


def test_the_required_scope_leaves_out_a_structures_own_zone():
    reference, prediction, endpoints = empty(), empty(), empty()
    reference[2:8, 2:6, 2:6] = 5
    prediction[2:6, 2:6, 2:6] = 5
    endpoints[6:9, 1:7, 1:7] = 5  # where the prediction stops early
    reference[2:8, 7:9, 2:6] = 1
    prediction[2:8, 7:9, 2:6] = 1
    endpoints[2:4, 7:9, 2:6] = 6  # the zone of the PA leaves out no voxel of the LV

    case = score(prediction, reference, endpoints)

    full, required = row_of(case, "AO"), row_of(case, "AO", "required")
    assert (full.dice, required.dice) == (2 * 64 / 160, 1)
    assert required.volume_reference_ml == pytest.approx(64 * 0.003)
    assert required.hd95_mm == 0
    assert row_of(case, "LV", "required").volume_reference_ml == pytest.approx(48 * 0.003)
    heart = row_of(case, "whole_heart", "required")
    assert heart.volume_reference_ml == pytest.approx((64 + 32) * 0.003)


def test_a_structure_within_its_zone_is_absent_in_the_required_scope():
    reference, endpoints = empty(), empty()
    reference[2:4, 2:4, 2:4] = 7
    endpoints[1:6, 1:6, 1:6] = 7

    case = score(reference, reference, endpoints)

    assert row_of(case, "SVC").dice == 1
    assert row_of(case, "SVC", "required").flag == "absent"
    assert row_of(case, "RV", "required").flag == "absent"


def test_without_endpoints_only_the_full_scope_is_scored():
    case = score(empty(), empty())

    assert {row.scope for row in case.rows} == {"full"}
    assert not case.has_endpoints


def test_scores_do_not_depend_on_the_memory_order_of_arrays():
    generator = np.random.default_rng(5)
    maps = [
        np.repeat(np.repeat(generator.integers(0, 9, (4, 5, 4), np.uint8), 3, 0), 2, 1)
        for _ in range(3)
    ]

    plain = score(*maps)
    turned = score(*(np.asfortranarray(labels) for labels in maps))

    for first, second in zip(plain.rows, turned.rows, strict=True):
        for name in COLUMNS:
            assert getattr(first, name) == pytest.approx(getattr(second, name), nan_ok=True)
    np.testing.assert_array_equal(plain.confusion, turned.confusion)


def test_arguments_are_not_changed():
    reference, endpoints = empty(), empty()
    reference[2:4, 2:4, 2:4] = 7
    endpoints[3:6, 1:6, 1:6] = 7
    copies = reference.copy(), endpoints.copy()

    score(reference, reference, endpoints)

    np.testing.assert_array_equal(reference, copies[0])
    np.testing.assert_array_equal(endpoints, copies[1])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (LabelPair("a", np.zeros((2, 2, 3), int), np.zeros((2, 2, 2), int), (1, 1, 1)), "shape"),
        (LabelPair("a", None, np.zeros((2, 2), int), (1, 1, 1)), "expected 3D label maps"),
        (LabelPair("a", None, np.zeros((2, 2, 2), int), (1, 0, 1)), "3 positive spacings"),
        (
            LabelPair("a", None, np.full((2, 2, 2), 9), (1, 1, 1)),
            "expected labels 0 to 8, got 9 to 9",
        ),
        (
            LabelPair("a", None, np.zeros((2, 2, 2), int), (1, 1, 1), np.zeros((1, 2, 2), int)),
            "endpoints: expected the shape",
        ),
    ],
)
def test_wrong_pairs_are_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        score_case(pair, HVSMR)
