import json

import pytest

from heartseg.cohort.leakage import SLICE_SPLIT, PartContents
from heartseg.cohort.training_record import (
    TrainingRecord,
    audit_scores,
    find_learned,
    record_from_json,
    record_to_json,
)

OLD = TrainingRecord(
    PartContents(("pat1", "pat2"), {"pat1": "m1", "pat2": "m2"}, image_hashes={"pat1": "i1"}),
    PartContents(("pat3",), {"pat3": "m3"}),
)
NEW = TrainingRecord(
    PartContents(("caseA",), {"caseA": "mA"}, {"caseA_001.png": "s1"}, {"caseA": "iA"}),
    origin="packaged",
    ancestor=OLD,
)


def test_what_a_model_never_saw_gives_no_warning():
    test = PartContents(("caseB",), {"caseB": "mB"}, image_hashes={"caseB": "iB"})

    assert audit_scores(NEW, test) == []


def test_a_case_of_the_training_is_found_by_name():
    (warning,) = audit_scores(NEW, PartContents(("caseA",)))

    assert warning == (
        "LEAKAGE: test cases that also occur in the training cases of the model: 1 of 1 (caseA)."
    )


def test_a_case_that_the_first_weights_learned_from_is_found_by_its_label_map():
    (warning,) = audit_scores(NEW, PartContents(("mine",), {"mine": "m2"}))

    assert "the weights that the training started from (packaged)" in warning
    assert "mine = pat2" in warning


def test_a_validation_case_counts_as_seen():
    (warning,) = audit_scores(OLD, PartContents(("pat3",)))

    assert "validation cases of the model" in warning


def test_a_scan_is_found_under_another_name():
    (warning,) = audit_scores(NEW, PartContents(("mine",), image_hashes={"mine": "i1"}))

    assert "test cases whose scan also occurs in the training cases" in warning


def test_the_same_name_in_another_data_set_is_another_patient():
    phantom = PartContents(("pat1",), {"pat1": "a phantom"})

    assert audit_scores(NEW, phantom) == []
    # Without contents to compare, the name is all there is.
    (warning,) = audit_scores(NEW, PartContents(("pat1",)))
    assert "pat1" in warning


def test_a_split_by_slice_and_an_unknown_origin_are_said():
    record = TrainingRecord(PartContents(("a",)), by_slice=True, origin="other.keras")

    by_slice, unknown = audit_scores(record, PartContents(("b",)))

    assert by_slice == SLICE_SPLIT
    assert "started from other.keras, which does not record what it learned from" in unknown


@pytest.mark.parametrize(
    ("hashes", "found"),
    [
        ({"image_hash": "iA"}, "its scan was a training case"),
        ({"label_hash": "m3"}, "its label map was a validation case"),
        ({"image_hash": "i1"}, "its scan was a training case"),
        ({"image_hash": "i9", "label_hash": "m9"}, None),
        ({}, None),
    ],
)
def test_a_scan_that_the_model_knows_is_recognised(hashes, found):
    assert find_learned(NEW, **hashes) == found


def test_a_record_reads_back_from_json():
    assert record_from_json(json.loads(json.dumps(record_to_json(NEW)))) == NEW


@pytest.mark.parametrize("content", [{}, {"train": 3}, {"train": {}, "valid": {}, "by": "slice"}])
def test_another_content_is_refused(content):
    with pytest.raises(ValueError, match="not a record of a training"):
        record_from_json(content)
