import logging

from heartseg.cohort.inputs import find_inputs


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
    assert "parent: expected files that end in .png" in problems[2]
    assert problems[2].endswith("found none; pass one of its subfolders: images")
