import json

import pytest

from heartseg.cohort.data_set import Naming, find_data_set
from heartseg.errors import DataError
from heartseg.label_tables import ACDC
from heartseg.labels import HVSMR

NAMING = Naming("_cropped_norm", "_cropped_seg", "_cropped_seg_endpoints", "scans", "truth")
FILES = {
    "hvsmr": ("{}_cropped_norm.nii.gz", "{}_cropped_seg.nii.gz"),
    "nnunet": ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
    "msd": ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    "folders": ("scans/{}.nii", "truth/{}.nii.gz"),
}


def make(folder, layout, *, labels=None, images=("a2", "a10"), maps=("a2", "a10"), **described):
    for pattern, cases in zip(FILES[layout], (images, maps), strict=True):
        for case in cases:
            file = folder / pattern.format(case)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    if layout in ("nnunet", "msd"):
        default = {s.key: s.value for s in HVSMR}
        content = {"labels": labels or default, **described}
        (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def find(folder, layout, table=HVSMR):
    return find_data_set(folder, layout, NAMING, table)


@pytest.mark.parametrize("layout", FILES)
def test_every_layout_lists_its_cases_in_natural_order(tmp_path, layout):
    found = find(make(tmp_path, layout, maps=("a2", "a10", "alone")), layout)

    image, label = FILES[layout]
    assert [case.name for case in found.cases] == ["a2", "a10"]
    assert found.cases[1].image_file == tmp_path / image.format("a10")
    assert found.cases[1].label_file == tmp_path / label.format("a10")
    assert found.label_maps == {"alone": tmp_path / label.format("alone")}
    assert set(found.label_files) == {"a2", "a10", "alone"}
    assert found.images == {"a2", "a10"}
    (problem,) = found.problems
    assert "alone" in problem


def test_an_image_without_a_label_map_is_a_problem_that_names_what_is_missing(tmp_path):
    (problem,) = find(
        make(tmp_path, "nnunet", images=("a1", "a2"), maps=("a1",)), "nnunet"
    ).problems
    assert problem.endswith("imagesTr/a2_0000.nii.gz: has no partner labelsTr/a2.nii.gz")


def test_images_in_folders_may_have_the_channel_in_their_names(tmp_path):
    make(tmp_path, "folders", images=("a2_0000", "a10_0000"))
    assert [case.name for case in find(tmp_path, "folders").cases] == ["a2", "a10"]


@pytest.mark.parametrize(
    ("layout", "labels"),
    [
        ("nnunet", {"LVC": 3, "background": 0, "MLV": 2, "RV": 1}),
        ("nnunet", {"background": 0, "left ventricle": 3, "RV": 1, "LV_myocardium": 2}),
        ("msd", {"2": "MYO", "0": "background", "3": "left ventricle", "1": "right ventricle"}),
    ],
)
def test_labels_are_known_by_name_in_any_order(tmp_path, layout, labels):
    table = find(make(tmp_path, layout, labels=labels), layout, ACDC).table
    assert table.source_labels == {0: 0, 1: 1, 2: 2, 3: 3}


def test_other_values_are_those_of_the_files(tmp_path):
    found = find(make(tmp_path, "msd", labels={"0": "background", "1": "left atrium"}), "msd")
    assert found.table == HVSMR
    assert found.table.source_labels == {0: 0, 1: 3}
    assert "has no LV, RV, RA, AO, PA, SVC, IVC, which section labels lists" in found.notices[0]


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            {"labels": {"background": 0, "liver": 1, "LV": 2}},
            r"the label 'liver' \(1\) is not among",
        ),
        ({"labels": {"background": 0, "LV": 1, "left ventricle": 2}}, "two labels mean LV"),
        ({"labels": {"background": 0, "LV": [1, 2]}}, "is a region of the values"),
        ({"labels": {"background": 0, "LV": 1, "ignore": 2}}, "nobody labelled"),
        ({"labels": {"background": 0, "LV": "x"}}, "expected a whole number, found 'x'"),
        ({"labels": []}, "expected the labels with their values"),
        ({"channel_names": {"0": "T1", "1": "T2"}}, r"one channel, found 2 \(T1, T2\)"),
        ({"file_ending": ".mha"}, "expected the file_ending .nii or .nii.gz, found '.mha'"),
    ],
)
def test_a_dataset_json_that_cannot_be_followed_is_an_error(tmp_path, described, message):
    make(tmp_path, "nnunet")
    content = {"labels": {"background": 0, "LV": 1}, **described}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        find(tmp_path, "nnunet")


def test_without_a_dataset_json_the_values_have_no_meaning(tmp_path):
    make(tmp_path, "msd")
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"no such file; .*data.layout: folders"):
        find(tmp_path, "msd")


def test_what_is_skipped_is_logged_once_per_call(tmp_path, caplog):
    folder = make(tmp_path, "hvsmr")
    (folder / "._a2_cropped_norm.nii.gz").touch()
    (folder / "b_cropped_norm.nrrd").touch()

    for _ in range(2):  # Each call reports it: the one before may be of another user.
        caplog.clear()
        with caplog.at_level("INFO"):
            find(folder, "hvsmr")

        assert len([line for line in caplog.messages if "hidden files" in line]) == 1
        assert len([line for line in caplog.messages if "training data are NIfTI" in line]) == 1


def test_images_of_the_test_part_are_counted_and_take_no_part(tmp_path):
    make(tmp_path, "nnunet")
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTs" / "b_0000.nii.gz").touch()
    found = find(tmp_path, "nnunet")
    assert "b" not in found.images
    assert "imagesTs: 1 image without label maps, which take no part" in found.notices[0]


def test_empty_folders_are_an_error(tmp_path):
    for name in ("scans", "truth"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="expected NIfTI files in scans and truth, found none"):
        find(tmp_path, "folders")
