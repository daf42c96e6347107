from pathlib import Path

import pytest

from heartseg.cohort.pairing import Suffixes, case_name, pair_label_maps
from heartseg.errors import DataError

SUFFIXES = Suffixes("_cropped_norm", "_cropped_seg", "_cropped_seg_endpoints")


def make(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "pat4.nii.gz",
        "pat4.nii",
        "pat4_seg.nii.gz",
        "pat4_cropped_seg.nii.gz",
        "pat4_cropped_norm_seg.nii.gz",
        "pat4_cropped_seg_endpoints.nii.gz",
        "pat4_0000_seg.nii.gz",
        "pat4_0000.nii.gz",
        "pat4_CROPPED_seg.nii.gz",
        "pat4_cropped_seg.nrrd",
        "pat4.seg.nrrd",
        "pat4.seg.dcm",
        "pat4_seg.mha",
        "pat4.mgz",
    ],
)
def test_names_of_all_tools_lead_to_the_case(name):
    assert case_name(Path(name), SUFFIXES.all) == "pat4"


def test_a_name_that_is_a_suffix_alone_stays():
    assert case_name(Path("_seg.nii.gz"), SUFFIXES.all) == "_seg"


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        # Named after the input; nnU-Net's channel; what infer writes; the data set's own name.
        ("pat1_cropped_norm.nii.gz", "pat1_cropped_seg.nii.gz"),
        ("pat1_0000_seg.nii.gz", "pat1_cropped_seg.nii.gz"),
        ("pat1_cropped_norm_seg.nii.gz", "pat1_cropped_seg.nii.gz"),
        ("pat1_cropped_seg.nii.gz", "pat1.nii.gz"),
        ("pat1_seg.nrrd", "pat1.seg.nrrd"),
        ("pat1.MGZ", "pat1_cropped_seg.mha"),
    ],
)
def test_label_maps_pair_however_they_are_named(tmp_path, prediction, reference):
    predictions = make(tmp_path / "p", prediction)
    references = make(tmp_path / "r", reference)

    (case,) = pair_label_maps(predictions, references, None, SUFFIXES).cases

    assert (case.case, case.prediction, case.reference) == (
        "pat1",
        predictions / prediction,
        references / reference,
    )


def test_a_scan_beside_its_label_map_is_left_out_and_shown(tmp_path):
    predictions = make(tmp_path / "p", "scan.nii.gz", "scan_seg.nii.gz")
    references = make(
        tmp_path / "r",
        "scan_cropped_norm.nii.gz",
        "scan_cropped_seg.nii.gz",
        "scan_cropped_seg_endpoints.nii.gz",
    )

    pairing = pair_label_maps(predictions, references, references, SUFFIXES)

    (case,) = pairing.cases
    assert case.prediction == predictions / "scan_seg.nii.gz"
    assert case.image == references / "scan_cropped_norm.nii.gz"
    assert case.endpoints == references / "scan_cropped_seg_endpoints.nii.gz"
    assert pairing.left_out == (predictions / "scan.nii.gz",)


def test_two_label_maps_of_one_case_are_a_problem_that_names_them(tmp_path):
    predictions = make(tmp_path / "p", "pat1.nii.gz", "pat1.nii", "pat2.nii.gz")
    references = make(tmp_path / "r", "pat1.nii.gz", "pat2.nii.gz")

    pairing = pair_label_maps(predictions, references, None, SUFFIXES)

    assert [case.case for case in pairing.cases] == ["pat2"]
    (problem,) = pairing.problems
    assert "several files are of the case pat1: pat1.nii, pat1.nii.gz" in problem


def test_cases_without_a_partner_are_told_apart(tmp_path):
    predictions = make(tmp_path / "p", "pat2.nii.gz", "pat9.nii.gz")
    references = make(tmp_path / "r", "pat10.nii.gz", "pat2.nii.gz")

    pairing = pair_label_maps(predictions, references, None, SUFFIXES)

    assert [case.case for case in pairing.cases] == ["pat2", "pat10"]
    assert pairing.cases[1].prediction is None
    assert pairing.unpaired == ("pat9",)


def test_what_infer_suggest_and_refine_write_of_a_part_of_a_case_is_passed_over(tmp_path, caplog):
    suffixes = Suffixes("_cropped_norm", "_cropped_seg", "", masks=("_LV",))
    parts = (
        "pat1_suggested.nii.gz",
        "pat1_drawn.nii.gz",
        "pat1_LV.nii.gz",
        "pat2_cropped_norm_suggested.nii.gz",
    )
    predictions = make(tmp_path / "p", "pat1_seg.nii.gz", *parts, "pat9_suggested.nii.gz")
    references = make(tmp_path / "r", "pat1.nii.gz", "pat2.nii.gz", "pat2_drawn.nii.gz")

    with caplog.at_level("INFO"):
        pairing = pair_label_maps(predictions, references, None, suffixes)

    assert [(case.case, case.prediction) for case in pairing.cases] == [
        ("pat1", predictions / "pat1_seg.nii.gz"),
        ("pat2", None),
    ]
    # No case pat9 is known, so that this may be the name of one.
    assert pairing.unpaired == ("pat9_suggested",)
    assert all(name in caplog.text for name in (*parts, "pat2_drawn.nii.gz"))


def test_a_file_of_such_a_name_counts_if_it_has_a_reference_of_that_name(tmp_path):
    names = ("pat1.nii.gz", "pat1_drawn.nii.gz")
    predictions, references = make(tmp_path / "p", *names), make(tmp_path / "r", *names)

    pairing = pair_label_maps(predictions, references, None, SUFFIXES)

    assert [case.prediction for case in pairing.cases] == [predictions / name for name in names]


def test_nothing_that_pairs_is_an_error_that_shows_both_names(tmp_path):
    predictions, references = make(tmp_path / "p", "a.nii"), make(tmp_path / "r", "b_seg.nii.gz")

    with pytest.raises(DataError, match=r"a\.nii \(case a\), and references b_seg\.nii\.gz \(cas"):
        pair_label_maps(predictions, references, None, SUFFIXES)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"p: expected label maps .*, found none"):
        pair_label_maps(make(tmp_path / "p"), make(tmp_path / "r", "a.nii"), None, SUFFIXES)
