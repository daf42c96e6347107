import json
import logging
import os

import numpy as np
import pytest
from builders import list_visible, make_config, make_scan, read_tree, write_case

from heartseg.cohort.clinical import read_clinical_table
from heartseg.cohort.split_record import read_split_record
from heartseg.errors import DataError
from heartseg.files import UNFINISHED
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.split import run_split
from heartseg.slices.manifest import SliceRecord, slice_file_name, write_manifest
from heartseg.slices.store import write_color, write_gray

PARTS = ("train", "valid", "test")


def make_master(folder, cases=10, slices=3):
    """Write a prepared folder without volumes."""
    picture = np.zeros((4, 4), np.uint8)
    records = [
        SliceRecord(
            slice_file_name(f"pat{c}", i), f"pat{c}", i, "sagittal", f"pat{c}.nii", 4, 4, 1, 1, 1
        )
        for c in range(cases)
        for i in range(slices)
    ]
    for record in records:
        picture[0, 0] += 1
        write_gray(folder / "images" / record.file, picture)
        write_color(folder / "masks" / record.file, np.dstack([picture] * 3))
    write_manifest(folder / "manifest.csv", records)
    state = {"complete": True, "label_sha256": {f"pat{c}": f"{c:064x}" for c in range(cases)}}
    (folder / "prepare.json").write_text(json.dumps(state))
    return records


@pytest.fixture
def master(tmp_path):
    return make_master(tmp_path / "master")


def read_summary(tmp_path, *folders):
    return json.loads((tmp_path / "dataset").joinpath(*folders, "split.json").read_text())


def files_of(tmp_path, part, kind="images"):
    return sorted(file.name for file in (tmp_path / "dataset" / part / kind).iterdir())


def test_by_patient_no_patient_is_in_two_parts(tmp_path, master):
    result = run_split(make_config(tmp_path))

    assert dict(result.slices[0]) == {"train": 24, "valid": 3, "test": 3}
    cases = [{name.rsplit("_", 1)[0] for name in files_of(tmp_path, part)} for part in PARTS]
    assert sum(map(len, cases)) == len(set.union(*cases)) == 10
    for part in PARTS:
        assert files_of(tmp_path, part) == files_of(tmp_path, part, "masks")
    assert result.warnings == ()
    summary = read_summary(tmp_path)
    assert summary["by"] == "patient"
    assert summary["seed"] == 137
    assert summary["warnings"] == []
    assert summary["counts"]["train"] == {"cases": 8, "slices": 24}
    for part, names in zip(PARTS, cases, strict=True):
        assert set(summary["cases"][part]) == names
    assert len(summary["hashes"]["cases"]) == 10
    assert sum(len(part) for part in summary["hashes"]["slices"].values()) == 30
    assert (tmp_path / "dataset" / "statistics.png").is_file()


def test_slices_are_hard_links_to_the_prepared_ones(tmp_path, master):
    run_split(make_config(tmp_path))
    for part in PARTS:
        for kind in ("images", "masks"):
            for name in files_of(tmp_path, part, kind):
                linked = tmp_path / "dataset" / part / kind / name
                assert linked.samefile(tmp_path / "master" / kind / name)


def test_slices_are_copied_where_links_cannot_be(tmp_path, master, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    run_split(make_config(tmp_path))
    for part in PARTS:
        for name in files_of(tmp_path, part):
            copy, source = (
                tmp_path / "dataset" / part / "images" / name,
                tmp_path / "master" / "images" / name,
            )
            assert not copy.samefile(source)
            assert copy.read_bytes() == source.read_bytes()


def test_by_slice_the_leak_is_told_and_recorded(tmp_path, master, caplog):
    config = make_config(tmp_path, {"split": {"by": "slice"}})
    with caplog.at_level(logging.WARNING):
        result = run_split(config)

    assert dict(result.slices[0]) == {"train": 24, "valid": 4, "test": 2}
    assert any("split by slice, not by patient" in warning for warning in result.warnings)
    for warning in result.warnings:
        assert warning in caplog.text
    assert read_summary(tmp_path)["warnings"] == list(result.warnings)
    trained, tested = (
        {name.rsplit("_", 1)[0] for name in files_of(tmp_path, part)} for part in ("train", "test")
    )
    shared = f"in the training part: {len(trained & tested)} of {len(tested)} ("
    assert any(shared in warning for warning in result.warnings)


def test_the_same_seed_gives_the_same_split(tmp_path, master):
    run_split(make_config(tmp_path))
    first = read_tree(tmp_path / "dataset")
    run_split(make_config(tmp_path), overwrite=True)
    assert read_tree(tmp_path / "dataset") == first
    run_split(make_config(tmp_path, {"split": {"seed": 1}}), overwrite=True)
    assert set(read_tree(tmp_path / "dataset")) != set(first)


def test_case_lists_are_taken_as_they_are(tmp_path, master):
    lists = {"train_cases": ["pat9", "pat0"], "valid_cases": [], "test_cases": ["pat3"]}
    result = run_split(make_config(tmp_path, {"split": lists}))
    assert dict(result.slices[0]) == {"train": 6, "valid": 0, "test": 3}
    assert read_summary(tmp_path)["cases"] == {
        "train": ["pat0", "pat9"],
        "valid": [],
        "test": ["pat3"],
    }


@pytest.mark.parametrize(
    ("train", "test", "problem"),
    [
        (["pat1", "pat99"], ["pat2"], "names cases that are not prepared: pat99"),
        (["pat1", "pat2"], ["pat2"], "expected each case in one part, found in several: pat2"),
        ([], ["pat2"], "train_cases: expected at least one case"),
    ],
)
def test_case_lists_that_make_no_sense_are_refused(tmp_path, master, train, test, problem):
    lists = {"train_cases": train, "valid_cases": [], "test_cases": test}
    with pytest.raises(DataError, match=problem):
        run_split(make_config(tmp_path, {"split": lists}))
    assert not (tmp_path / "dataset").exists()


def test_each_case_is_tested_in_exactly_one_fold(tmp_path, master):
    result = run_split(make_config(tmp_path, {"split": {"folds": 3}}))

    assert len(result.partitions) == 3
    tested = []
    for fold in range(3):
        summary = read_summary(tmp_path, f"fold_{fold}")
        assert (summary["fold"], summary["folds"]) == (fold, 3)
        tested += summary["cases"]["test"]
        for part in PARTS:
            images = tmp_path / "dataset" / f"fold_{fold}" / part / "images"
            found = {file.name.rsplit("_", 1)[0] for file in images.iterdir()}
            assert found == set(summary["cases"][part])
    assert sorted(tested) == sorted(f"pat{c}" for c in range(10))
    assert len(read_summary(tmp_path)["folds"]) == 3


def test_folds_replace_a_single_split_and_the_other_way_round(tmp_path, master):
    run_split(make_config(tmp_path, {"split": {"folds": 3}}))
    run_split(make_config(tmp_path), overwrite=True)
    names = set(list_visible(tmp_path / "dataset"))
    assert names == {"train", "valid", "test", "split.json", "statistics.png"}


def test_categories_of_the_clinical_table_are_spread(tmp_path):
    make_master(tmp_path / "master", cases=20, slices=1)
    rows = [f"{c},{'severe' if c % 2 else 'mild'}" for c in range(20)]
    (tmp_path / "clinical.csv").write_text("Pat,Category\n" + "\n".join(rows))
    config = make_config(
        tmp_path,
        {
            "data": {"clinical_file": tmp_path / "clinical.csv"},
            "split": {"train_fraction": 0.6, "valid_fraction": 0.2},
        },
    )
    run_split(config)
    summary = read_summary(tmp_path)
    assert summary["stratified"]
    for part in PARTS:
        odd = sum(int(case[3:]) % 2 for case in summary["cases"][part])
        assert 2 * odd == len(summary["cases"][part])


@pytest.mark.parametrize("by", ["patient", "slice"])
def test_the_same_label_map_under_two_names_is_an_error_by_patient(tmp_path, by):
    scan = make_scan()
    for name in ("pat1", "pat2", "copy of pat1"):
        write_case(tmp_path / "volumes", name, make_scan(seed=3) if name == "pat2" else scan)
    config = make_config(tmp_path, {"split": {"by": by}})
    run_prepare(config)
    if by == "slice":
        run_split(config)
        return
    with pytest.raises(DataError, match="several case names: copy of pat1 = pat1"):
        run_split(config)
    assert not (tmp_path / "dataset").exists()


def test_a_finished_split_asks_for_overwrite(tmp_path, master):
    config = make_config(tmp_path)
    run_split(config)
    with pytest.raises(DataError, match="pass --overwrite"):
        run_split(config)
    (tmp_path / "dataset" / "notes.txt").write_text("mine")
    run_split(config, overwrite=True)
    assert (tmp_path / "dataset" / "notes.txt").read_text() == "mine"


def test_an_interrupted_split_starts_over_without_asking(tmp_path, master, monkeypatch):
    config = make_config(tmp_path)

    def interrupt(done, total, what):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_split(config, report=interrupt)
    assert (tmp_path / "dataset" / UNFINISHED).is_file()
    assert not (tmp_path / "dataset" / "split.json").exists()
    run_split(config)
    again = read_tree(tmp_path / "dataset")
    run_split(config, overwrite=True)
    assert read_tree(tmp_path / "dataset") == again


def test_a_lost_slice_and_a_missing_manifest_are_named(tmp_path, master):
    (tmp_path / "master" / "masks" / "pat4_001.png").unlink()
    with pytest.raises(DataError, match=r"pat4_001\.png: is named in the manifest but not there"):
        run_split(make_config(tmp_path))
    (tmp_path / "master" / "manifest.csv").unlink()
    with pytest.raises(DataError, match=r"manifest\.csv: no such file; run `heartseg prepare`"):
        run_split(make_config(tmp_path))


def test_a_manifest_cannot_lead_out_of_the_folder(tmp_path, master):
    manifest = tmp_path / "master" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("pat0_000.png", "../../../evil.png"))
    before = read_tree(tmp_path)
    with pytest.raises(DataError, match="expected the name of a slice file"):
        run_split(make_config(tmp_path))
    assert read_tree(tmp_path) == before


def test_an_unfinished_prepare_is_told(tmp_path, master, caplog):
    state = {"complete": False}
    (tmp_path / "master" / "prepare.json").write_text(json.dumps(state))
    with caplog.at_level(logging.WARNING):
        run_split(make_config(tmp_path))
    assert "prepare did not finish" in caplog.text


def test_one_case_is_too_few(tmp_path):
    make_master(tmp_path / "master", cases=1)
    with pytest.raises(DataError, match="at least 2 cases, found 1"):
        run_split(make_config(tmp_path))


def clinical(folder, text):
    file = folder / "clinical.csv"
    file.write_text(text)
    return file


@pytest.mark.parametrize("names", [("pat0", "pat1"), ("0", "1")])
def test_patients_of_the_table_may_be_numbers_or_names(tmp_path, names):
    rows = "".join(f"{name},mild\n" for name in names)
    table = read_clinical_table(clinical(tmp_path, f"Pat,Category\n{rows}"))
    assert table.categories == {"pat0": "mild", "pat1": "mild"}


def test_a_table_that_names_no_case_is_said_and_the_split_is_not_called_stratified(
    tmp_path, caplog
):
    make_master(tmp_path / "master")
    table = clinical(tmp_path, "Pat,Category\n901,mild\n902,severe\n")

    run_split(make_config(tmp_path, {"data": {"clinical_file": table}}))

    assert "clinical.csv: names none of the prepared cases" in caplog.text
    assert "it names pat901, pat902, the cases are pat0, pat1, pat2" in caplog.text
    assert not read_split_record(tmp_path / "dataset" / "split.json").stratified


def test_a_table_beside_lists_of_cases_is_said_not_to_be_used(tmp_path, caplog):
    make_master(tmp_path / "master", cases=3)
    table = clinical(tmp_path, "Pat,Category\n0,mild\n1,severe\n2,mild\n")
    lists = {"train_cases": ["pat0"], "valid_cases": ["pat1"], "test_cases": ["pat2"]}

    run_split(make_config(tmp_path, {"data": {"clinical_file": table}, "split": lists}))

    assert "not used, since the configuration lists the cases of each part" in caplog.text
    assert not read_split_record(tmp_path / "dataset" / "split.json").stratified
