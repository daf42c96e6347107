import sys

import pytest

from heartseg.cohort.cases import Place, find_cases, find_volumes
from heartseg.errors import DataError


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def find(folder):
    return find_cases(Place(folder, "_cropped_norm"), Place(folder, "_cropped_seg"))


def test_images_and_label_maps_are_paired_in_natural_order(tmp_path):
    for case in ("pat10", "pat2", "pat1"):
        touch(tmp_path, f"{case}_cropped_norm.nii.gz", f"{case}_cropped_seg.nii.gz")
    touch(tmp_path, "pat2_cropped_seg_endpoints.nii.gz", "notes.txt")

    cases, problems = find(tmp_path)

    assert [case.name for case in cases] == ["pat1", "pat2", "pat10"]
    assert cases[1].image_file == tmp_path / "pat2_cropped_norm.nii.gz"
    assert cases[1].label_file == tmp_path / "pat2_cropped_seg.nii.gz"
    assert problems == []


def test_compressed_and_plain_files_may_be_mixed(tmp_path):
    touch(tmp_path, "a_cropped_norm.nii", "a_cropped_seg.nii.gz")
    assert [case.name for case in find(tmp_path)[0]] == ["a"]


def test_every_incomplete_case_is_a_problem_and_the_others_are_found(tmp_path):
    touch(
        tmp_path,
        "a_cropped_norm.nii.gz",
        "b_cropped_seg.nii.gz",
        "c_cropped_norm.nii",
        "c_cropped_norm.nii.gz",
        "c_cropped_seg.nii",
        "d_cropped_norm.nii",
        "d_cropped_seg.nii",
    )
    cases, problems = find(tmp_path)

    assert [case.name for case in cases] == ["d"]
    assert len(problems) == 3
    assert "a_cropped_norm.nii.gz: has no partner a_cropped_seg.nii.gz" in problems[0]
    assert "b_cropped_seg.nii.gz: has no partner b_cropped_norm.nii.gz" in problems[1]
    assert "c_cropped_norm.nii: the same case is also in c_cropped_norm.nii.gz" in problems[2]


@pytest.mark.parametrize("name", ["", "a\nb", "a\tb", "a\x1b[31m", "a,b", "$a$", "a*"])
@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot exist there")
def test_names_that_could_do_harm_are_problems(tmp_path, name):
    touch(tmp_path, f"{name}_cropped_norm.nii", f"{name}_cropped_seg.nii")
    cases, problems = find(tmp_path)
    assert cases == []
    assert "holds characters that are not allowed" in problems[0]
    assert problems[0].isprintable()


@pytest.mark.parametrize("name", ["pat1", "Häschen", "患者1", "a b", "a.b", "-a", "a+1"])
def test_names_of_letters_in_any_script_are_fine(tmp_path, name):
    touch(tmp_path, f"{name}_cropped_norm.nii", f"{name}_cropped_seg.nii")
    assert [case.name for case in find(tmp_path)[0]] == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems compare names normalised")
def test_the_same_name_in_two_unicode_forms_is_a_problem(tmp_path):
    for name in ("é", "e\u0301"):
        touch(tmp_path, f"{name}_cropped_norm.nii", f"{name}_cropped_seg.nii")
    cases, problems = find(tmp_path)
    assert len(cases) + len(problems) == 2
    assert len(problems) >= 1


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"expected NIfTI files named CASE_cropped_norm\.nii\.gz"):
        find(tmp_path)
    with pytest.raises(DataError, match="cannot be read as a folder"):
        find(tmp_path / "none")
    touch(tmp_path, "file")
    with pytest.raises(DataError, match="cannot be read as a folder"):
        find_volumes(tmp_path / "file", "")


def test_without_a_suffix_every_volume_is_found(tmp_path):
    touch(tmp_path, "a.nii", "b.nii.gz", "c.png")
    assert sorted(find_volumes(tmp_path, "")) == ["a", "b"]


def test_capital_letters_in_endings_do_not_drop_a_patient(tmp_path):
    for name in (
        "pat1_cropped_norm.NII.GZ",
        "pat1_cropped_seg.Nii.gz",
        "._pat1_cropped_seg.nii.gz",
    ):
        (tmp_path / name).touch()

    (case,), problems = find(tmp_path)

    assert (case.name, case.image_file.name) == ("pat1", "pat1_cropped_norm.NII.GZ")
    assert problems == []


def test_scans_that_are_not_nifti_are_named_in_a_warning(tmp_path, caplog):
    for name in ("a_seg.nii.gz", "a_norm.nii.gz", "b_norm.nrrd", "c_norm.MHA", "d_norm.txt"):
        (tmp_path / name).touch()

    cases, problems = find_cases(Place(tmp_path, "_norm"), Place(tmp_path, "_seg"))

    assert ([case.name for case in cases], problems) == (["a"], [])
    [warning] = caplog.messages
    assert warning.endswith("skipped, since training data are NIfTI: b_norm.nrrd, c_norm.MHA")
