import logging
import os
import sys

import numpy as np
import pytest
from builders import make_affine
from dicom_builders import make_enhanced, save, write_archive, write_classic

from heartseg.cohort.inputs import find_copies, find_images, find_inputs
from heartseg.errors import DataError
from heartseg.scans.volume import read_image


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_a_folder_gives_its_pictures_and_volumes_in_natural_order(tmp_path):
    touch(tmp_path, "pat10_001.png", "pat2_010.PNG", "pat2_009.jpg", "x.nii.gz", "a.nii", "b.txt")
    touch(tmp_path, ".heartseg-1-a.png", "._a.png")
    touch(tmp_path / "below", "deep.png")

    files, problems = find_inputs([tmp_path])

    names = ["a.nii", "pat2_009.jpg", "pat2_010.PNG", "pat10_001.png", "x.nii.gz"]
    assert [file.name for file in files] == names
    assert problems == []


def test_label_maps_in_a_folder_are_skipped_and_logged_but_read_if_given(tmp_path, caplog):
    touch(tmp_path, "pat4_cropped_norm.nii.gz", "pat4_cropped_seg.nii.gz")
    suffixes = ("_cropped_seg",)

    with caplog.at_level(logging.INFO):
        files, _ = find_inputs([tmp_path], skipped_suffixes=suffixes)
    given, _ = find_inputs([tmp_path / "pat4_cropped_seg.nii.gz"], skipped_suffixes=suffixes)

    assert [file.name for file in files] == ["pat4_cropped_norm.nii.gz"]
    assert "skipped because of their names: pat4_cropped_seg.nii.gz" in caplog.text
    assert [file.name for file in given] == ["pat4_cropped_seg.nii.gz"]


def test_every_path_without_an_input_has_a_message(tmp_path):
    touch(tmp_path / "parent")
    touch(tmp_path / "parent" / "images", "a.png")
    touch(tmp_path, "notes.txt")

    files, problems = find_inputs(
        [tmp_path / "missing.png", tmp_path / "notes.txt", tmp_path / "parent"]
    )

    assert files == []
    assert "missing.png: no such file" in problems[0]
    assert "notes.txt: expected a name that ends in .png" in problems[1]
    assert problems[1].endswith(".ima, .zip")
    assert "parent: expected files that end in .png" in problems[2]
    assert problems[2].endswith("found none; pass one of its subfolders: images")


def test_capital_letters_in_endings_do_not_matter(tmp_path):
    for name in ("a.NII.GZ", "b.nii.gz", "c.PNG", "a_cropped_SEG.NII.GZ"):
        (tmp_path / name).touch()

    files, problems = find_inputs([tmp_path], skipped_suffixes=["_cropped_seg"])

    assert ([file.name for file in files], problems) == (["a.NII.GZ", "b.nii.gz", "c.PNG"], [])


def test_hidden_files_are_skipped_with_one_line(tmp_path, caplog):
    for name in ("scan.nii.gz", "._scan.nii.gz", ".DS_Store"):
        (tmp_path / name).touch()

    with caplog.at_level("INFO"):
        files, _ = find_inputs([tmp_path])

    assert [file.name for file in files] == ["scan.nii.gz"]
    (line,) = caplog.messages
    assert "skipped, since they are hidden files: ._scan.nii.gz" in line


def test_a_link_that_leads_nowhere_is_listed_so_that_reading_it_is_an_error(tmp_path):
    (tmp_path / "scan.nii.gz").symlink_to(".git/annex/x")

    assert find_inputs([tmp_path])[0] == [tmp_path / "scan.nii.gz"]
    assert find_inputs([tmp_path / "scan.nii.gz"])[0] == [tmp_path / "scan.nii.gz"]
    with pytest.raises(DataError, match=r"link to a file that is not there \(\.git/annex/x\)"):
        read_image(tmp_path / "scan.nii.gz")


def test_an_input_that_is_named_twice_counts_once(tmp_path, caplog):
    (tmp_path / "scan.nii.gz").touch()

    with caplog.at_level("INFO"):
        files, _ = find_inputs([tmp_path / "scan.nii.gz", tmp_path])

    assert files == [tmp_path / "scan.nii.gz"]
    assert "counts once" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any bytes")
def test_names_that_are_not_utf_8_are_named_and_left_out(tmp_path, caplog):
    bad = tmp_path / os.fsdecode(b"pat\xff.nii.gz")
    bad.touch()
    (tmp_path / "good.nii.gz").touch()

    files, _ = find_inputs([tmp_path])
    _, problems = find_inputs([bad])

    assert [file.name for file in files] == ["good.nii.gz"]
    assert "their names are not UTF-8: pat\ufffd.nii.gz" in caplog.text
    assert problems == ["pat\ufffd.nii.gz: expected a name in UTF-8; rename the file"]


VOXELS = np.arange(5 * 4 * 3).reshape(5, 4, 3).astype(np.uint16)
LPS = make_affine("LPS")


def names_of(paths, folder):
    return [str(path.relative_to(folder)) for path in paths]


def test_scans_of_every_format_are_found_in_a_folder(tmp_path):
    names = ["a.nii", "b.NRRD", "c.nhdr", "d.mha", "e.mhd", "f.mgz", "g.mgh", "h.png"]
    touch(tmp_path, *names, "notes.txt", "e.raw")

    files, problems = find_images([tmp_path])

    assert ([file.name for file in files], problems) == (names, [])


def test_the_dicom_files_of_a_folder_are_one_input_beside_its_other_files(tmp_path):
    write_classic(tmp_path / "exam", VOXELS, LPS)
    touch(tmp_path / "exam", "converted.nii.gz", "icon.png")
    (tmp_path / "exam" / "slice.dcm").write_bytes((tmp_path / "exam" / "IM0003").read_bytes())

    files, problems = find_images([tmp_path / "exam"])

    assert names_of(files, tmp_path) == ["exam", "exam/converted.nii.gz", "exam/icon.png"]
    assert problems == []


def test_dicom_in_subfolders_counts_only_if_nothing_else_is_in_the_folder(tmp_path):
    write_classic(tmp_path / "exam" / "a" / "b", VOXELS, LPS)
    assert find_images([tmp_path / "exam"]) == ([tmp_path / "exam"], [])

    touch(tmp_path / "exam", "scan.nii.gz")
    assert names_of(find_images([tmp_path / "exam"])[0], tmp_path) == ["exam/scan.nii.gz"]


def test_a_dicom_file_with_any_name_is_an_input_if_it_is_named(tmp_path):
    file = save(make_enhanced(VOXELS, LPS), tmp_path / "IM000001")
    assert find_images([file]) == ([file], [])


def test_an_archive_in_a_folder_counts_only_if_it_holds_dicom(tmp_path, caplog):
    series = write_classic(tmp_path / "series", VOXELS, LPS)
    folder = tmp_path / "scans"
    touch(folder, "a.nii.gz")
    write_archive(folder / "dicom.zip", series)
    write_archive(folder / "other.zip", folder)
    (folder / "broken.zip").write_bytes(b"text")

    with caplog.at_level("INFO"):
        files, problems = find_images([folder])

    # Reading a broken archive is an error that names it.
    assert [file.name for file in files] == ["a.nii.gz", "broken.zip", "dicom.zip"]
    assert problems == []
    assert "skipped, since they hold no DICOM: other.zip" in caplog.text
    for name in ("a.nii.gz", "broken.zip", "dicom.zip"):
        (folder / name).unlink()
    _, [problem] = find_images([folder])
    assert problem.endswith("scans: expected pictures or scans, found archives without DICOM")
    assert find_images([folder / "other.zip"])[0] == [folder / "other.zip"]


def test_an_empty_folder_is_a_problem(tmp_path):
    _, [problem] = find_images([tmp_path])
    assert "expected files that end in .png" in problem


def test_segmentations_beside_their_label_map_in_nifti_are_copies(tmp_path):
    names = ["a_seg.nii.gz", "a.seg.nrrd", "a.seg.dcm", "b.seg.nrrd", "c_seg.nii", "c.nrrd"]
    files = [tmp_path / name for name in names]
    assert [file.name for file in find_copies(files)] == ["a.seg.nrrd", "a.seg.dcm"]


@pytest.mark.parametrize("skipped_suffixes", [[], ["_seg"]])
def test_label_maps_of_some_slices_beside_the_whole_are_no_inputs(
    tmp_path, caplog, skipped_suffixes
):
    touch(tmp_path, "a.nii.gz", "a_seg.nii.gz", "a_suggested.nii.gz", "a_drawn.nii.gz")
    # Named so by somebody who has no a_seg.nii.gz of heartseg.
    touch(tmp_path, "b_drawn.nii.gz")

    with caplog.at_level("INFO"):
        found, _ = find_inputs([tmp_path], skipped_suffixes=skipped_suffixes)

    whole = [] if skipped_suffixes else ["a_seg.nii.gz"]
    assert [file.name for file in found] == ["a.nii.gz", *whole, "b_drawn.nii.gz"]
    assert "some slices of a label map: a_drawn.nii.gz, a_suggested.nii.gz" in caplog.text
    assert find_inputs([tmp_path / "a_drawn.nii.gz"])[0] == [tmp_path / "a_drawn.nii.gz"]
