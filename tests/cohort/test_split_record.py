import json
from dataclasses import replace

import pytest

from heartseg.cohort.partition import Partition
from heartseg.cohort.split_record import (
    SplitRecord,
    audit_split,
    read_split_record,
    write_folds,
    write_split_record,
)
from heartseg.errors import DataError

CLEAN = SplitRecord(
    cases={"train": ("pat1", "pat2"), "valid": ("pat3",), "test": ("pat4",)},
    seed=137,
    train_fraction=0.5,
    valid_fraction=0.25,
    stratified=True,
    folds=4,
    fold=1,
    slices={"train": 7, "valid": 3, "test": 2},
    case_hashes={"pat1": "a", "pat2": "b", "pat3": "c", "pat4": "d"},
    slice_hashes={
        "train": {"pat1_001.png": "s1"},
        "valid": {"pat3_001.png": "s3"},
        "test": {"pat4_001.png": "s4"},
    },
    image_hashes={"pat1": "i1", "pat4": "i4"},
    recipe={"plane": "axial"},
    warnings=("one",),
)


def test_a_clean_split_has_no_warning():
    assert audit_split(CLEAN) == []


def test_a_split_by_slice_is_reported_as_leakage():
    (warning,) = audit_split(replace(CLEAN, by="slice"))

    assert "split by slice, not by patient" in warning


def test_a_test_case_in_the_training_part_is_found_by_name():
    cases = {"train": ("pat1", "pat4"), "valid": (), "test": ("pat4",)}

    (warning,) = audit_split(replace(CLEAN, cases=cases))

    assert warning == "LEAKAGE: test cases that also occur in the training part: 1 of 1 (pat4)."


def test_a_test_case_in_the_validation_part_is_found_by_content():
    split = replace(CLEAN, case_hashes={**CLEAN.case_hashes, "pat4": "c"})

    (warning,) = audit_split(split)

    assert warning == (
        "LEAKAGE: test cases whose label map also occurs in the validation part under another "
        "name: 1 (pat4 = pat3)."
    )


def test_a_test_slice_in_the_training_part_is_found_by_content():
    slices = {"pat4_001.png": "s1", "pat4_002.png": "s9"}
    split = replace(CLEAN, slice_hashes={**CLEAN.slice_hashes, "test": slices})

    (warning,) = audit_split(split)

    assert warning == (
        "LEAKAGE: test slices that also occur in the training part under another name: "
        "1 (pat4_001.png = pat1_001.png)."
    )


def test_the_label_maps_that_are_scored_replace_those_that_were_split():
    # The files were exchanged after the split.
    (warning,) = audit_split(CLEAN, test_hashes={"pat4": "b"})

    assert "pat4 = pat2" in warning


def test_a_split_without_hashes_is_checked_by_name_only():
    assert audit_split(SplitRecord({"train": ("pat1",), "test": ("pat2",)})) == []


def test_a_record_reads_back_as_it_was_written(tmp_path):
    write_split_record(tmp_path / "split.json", CLEAN)

    assert read_split_record(tmp_path / "split.json") == CLEAN
    counts = json.loads((tmp_path / "split.json").read_text())["counts"]
    assert counts == {
        "train": {"cases": 2, "slices": 7},
        "valid": {"cases": 1, "slices": 3},
        "test": {"cases": 1, "slices": 2},
    }


def test_a_record_of_names_alone_is_enough(tmp_path):
    (tmp_path / "split.json").write_text('{"cases": {"test": ["pat4"]}}')

    record = read_split_record(tmp_path / "split.json")

    assert record.cases == {"train": (), "valid": (), "test": ("pat4",)}
    assert record.contents("test").cases == ("pat4",)


def test_a_missing_record_is_an_error_with_the_command_that_writes_it(tmp_path):
    with pytest.raises(DataError, match=r"split\.json: no such file; run `heartseg split` first"):
        read_split_record(tmp_path / "split.json")


def test_the_overview_of_folds_is_not_read_as_a_fold(tmp_path):
    write_folds(tmp_path / "split.json", (Partition(("pat1",), (), ("pat2",)),), ())

    with pytest.raises(DataError, match=r"choose one of its folds by split\.folds and split\.fold"):
        read_split_record(tmp_path / "split.json")


@pytest.mark.parametrize(
    "content",
    [
        {"cases": ["pat1"]},
        {"cases": {"train": 3}},
        {"cases": {}, "hashes": {"slices": [1]}},
        {"cases": {}, "folds": "many"},
        {"cases": {}, "counts": {"train": {}}},
    ],
)
def test_a_file_that_is_not_a_record_is_refused(tmp_path, content):
    (tmp_path / "split.json").write_text(json.dumps(content))

    with pytest.raises(DataError, match=r"split\.json: not the record of a split"):
        read_split_record(tmp_path / "split.json")
