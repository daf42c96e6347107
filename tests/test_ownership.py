import json
import sys

import pytest

from heartseg.errors import DataError
from heartseg.files import TEMPORARY_PREFIX, UNFINISHED
from heartseg.lock import LOCK
from heartseg.ownership import (
    RECORD,
    Made,
    Outputs,
    add_to_record,
    check_own,
    claim_folder,
    discard,
    filling,
    finish_record,
    read_made,
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links")
TABLES = Outputs("tables", ("*.csv", "train/**"))
NAMED_ALIKE = Outputs("scans", ("pat*.nii.gz",), known_by_name=False)


def names(folder):
    """Everything in a folder but the record."""
    return sorted(
        entry.relative_to(folder).as_posix()
        for entry in folder.rglob("*")
        if entry.name != RECORD and (entry.is_symlink() or not entry.is_dir())
    )


def fill(folder, files=("a.csv",), outputs=TABLES, *, overwrite=False):
    with filling(folder, outputs, overwrite=overwrite):
        for name in files:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("made")


def test_claiming_an_empty_or_new_folder_succeeds(tmp_path):
    claim_folder(tmp_path / "new", TABLES, overwrite=False)
    finish_record(tmp_path / "new", TABLES)
    claim_folder(tmp_path / "new", TABLES, overwrite=False)
    assert names(tmp_path / "new") == []


def test_the_record_lists_what_was_written(tmp_path):
    (tmp_path / ".DS_Store").touch()
    fill(tmp_path, ("b.csv", "train/images/x.png", "a10.csv", "a9.csv"))
    assert read_made(tmp_path) == {
        "tables": Made(("a9.csv", "a10.csv", "b.csv", "train/images/x.png"), complete=True)
    }


def test_results_are_replaced_only_if_asked(tmp_path):
    fill(tmp_path)
    with pytest.raises(DataError, match=r"already holds a\.csv; pass --overwrite"):
        fill(tmp_path)
    fill(tmp_path, ("b.csv",), overwrite=True)
    assert names(tmp_path) == ["b.csv"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("outputs", [TABLES, NAMED_ALIKE])
def test_a_folder_that_the_command_did_not_make_is_refused(tmp_path, overwrite, outputs):
    for name in ("pat0.nii.gz", "history.json", "notes.csv"):
        (tmp_path / name).write_text("precious")
    before = names(tmp_path)
    with pytest.raises(DataError, match=r"did not make.*replaces its own results only"):
        fill(tmp_path, outputs=outputs, overwrite=overwrite)
    assert names(tmp_path) == before


def test_overwriting_keeps_what_others_put_beside_the_results(tmp_path):
    fill(tmp_path, ("a.csv", "train/images/x.png"))
    (tmp_path / "train/notes").mkdir()
    (tmp_path / "history.json").write_text("precious")
    fill(tmp_path, ("b.csv",), overwrite=True)
    assert names(tmp_path) == ["b.csv", "history.json"]
    assert (tmp_path / "train/notes").is_dir()


@pytest.mark.parametrize("name", ["mine.csv", "train/images/mine.png"])
def test_a_file_named_like_a_result_is_neither_removed_nor_taken_for_one(tmp_path, name):
    fill(tmp_path, ("a.csv", "train/images/x.png"))
    (tmp_path / name).write_text("precious")
    before = names(tmp_path)
    with pytest.raises(DataError, match=f"{name}: is named like a result of `heartseg tables`"):
        fill(tmp_path, overwrite=True)
    assert names(tmp_path) == before


def test_each_command_replaces_only_its_own_results(tmp_path):
    others = Outputs("pages", ("*.html", "*.csv"), shared=True)
    fill(tmp_path, ("a.html",), others)
    with pytest.raises(DataError, match="did not make"):
        fill(tmp_path, ("a.csv",), overwrite=True)
    (tmp_path / "a.html").unlink()
    fill(tmp_path, ("a.csv",))
    with pytest.raises(DataError, match=r"a\.csv: is named like a result of `heartseg pages`"):
        fill(tmp_path, ("a.html",), others, overwrite=True)
    assert names(tmp_path) == ["a.csv"]


def test_a_folder_of_version_0_1_is_recognised_by_its_files(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/x.png").write_text("old")
    with pytest.raises(DataError, match=r"already holds a\.csv and more; pass --overwrite"):
        fill(tmp_path, ("b.csv",))
    fill(tmp_path, ("b.csv",), overwrite=True)
    assert names(tmp_path) == ["b.csv"]


def test_a_folder_that_version_0_1_left_incomplete_is_filled_again(tmp_path):
    (tmp_path / "a.csv").write_text("old")
    (tmp_path / UNFINISHED).touch()
    fill(tmp_path, ("b.csv",))
    assert names(tmp_path) == ["b.csv"]


def test_a_command_whose_files_are_named_like_those_of_others_needs_its_record(tmp_path):
    (tmp_path / "pat0.nii.gz").write_text("precious")
    with pytest.raises(DataError, match=r"holds pat0\.nii\.gz, which `heartseg scans` did not"):
        fill(tmp_path, ("pat1.nii.gz",), NAMED_ALIKE, overwrite=True)
    fill(tmp_path / "new", ("pat1.nii.gz",), NAMED_ALIKE)
    fill(tmp_path / "new", ("pat2.nii.gz",), NAMED_ALIKE, overwrite=True)
    assert names(tmp_path) == ["new/pat2.nii.gz", "pat0.nii.gz"]


def test_the_marker_of_another_command_gives_no_right_to_replace(tmp_path):
    """An interrupted infer leaves a marker in the folder of the scans, too."""
    (tmp_path / "pat0.nii.gz").write_text("precious")
    (tmp_path / UNFINISHED).write_text("pat0_seg.nii.gz\n")
    with pytest.raises(DataError, match="did not make"):
        fill(tmp_path, ("pat1.nii.gz",), NAMED_ALIKE)
    assert "pat0.nii.gz" in names(tmp_path)


@posix_only
def test_links_are_not_followed_out_of_the_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep.png").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train").symlink_to(outside)
    # Named like a result: of version 0.1, which has no record.
    fill(folder, (), overwrite=True)
    assert names(folder) == []
    # A record that lists a file behind a link.
    (folder / "train").symlink_to(outside)
    add_to_record(folder, "tables", [folder / "train/keep.png"])
    discard(folder, TABLES)
    assert names(outside) == ["keep.png"]


@pytest.mark.parametrize("name", ["../a.csv", "/etc/passwd", "", "a\0b"])
def test_a_record_that_points_out_of_the_folder_is_damaged(tmp_path, name):
    content = {"made": {"tables": {"complete": True, "files": [name]}}}
    (tmp_path / RECORD).write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"\{RECORD}: the record of what heartseg made is damaged"):
        claim_folder(tmp_path, TABLES, overwrite=True)


@pytest.mark.parametrize("content", ["[]", '{"made": 3}', '{"made": {"tables": {}}}', "{"])
def test_a_damaged_record_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(DataError, match=rf"\{RECORD}: "):
        read_made(tmp_path)


def test_claiming_a_file_as_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be used as a folder"):
        claim_folder(tmp_path / "file", TABLES, overwrite=True)


def test_leftovers_of_an_interrupted_writer_do_not_count_as_results(tmp_path):
    (tmp_path / f"{TEMPORARY_PREFIX}x-a.png").touch()
    claim_folder(tmp_path, TABLES, overwrite=False)
    assert names(tmp_path) == []


def test_a_folder_that_is_complete_has_no_marker(tmp_path):
    with filling(tmp_path / "out", TABLES, overwrite=False):
        assert (tmp_path / "out" / UNFINISHED).is_file()
        (tmp_path / "out" / "a.csv").touch()
    assert names(tmp_path / "out") == ["a.csv"]


def test_a_folder_left_incomplete_is_filled_again_without_overwrite(tmp_path):
    with pytest.raises(KeyError), filling(tmp_path, TABLES, overwrite=False):
        (tmp_path / "half.csv").touch()
        raise KeyError
    with filling(tmp_path, TABLES, overwrite=False):
        assert names(tmp_path) == [UNFINISHED, LOCK]


@pytest.mark.parametrize("below", ["out", "new/out"])
def test_a_failed_start_leaves_no_folder(tmp_path, below):
    with (
        pytest.raises(DataError, match="wrong"),
        filling(tmp_path / below, TABLES, overwrite=False),
    ):
        raise DataError("wrong input")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_start_leaves_a_folder_that_was_there_as_it_was(tmp_path):
    others = Outputs("pages", ("*.html",), shared=True)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="wrong"), filling(tmp_path, others, overwrite=False):
        raise DataError("wrong input")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_marker_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / UNFINISHED).mkdir()
    with (
        pytest.raises(DataError, match=rf"{UNFINISHED}: cannot be written"),
        filling(tmp_path, TABLES, overwrite=True),
    ):
        pass


def test_an_earlier_result_that_cannot_be_removed_is_an_error(tmp_path, monkeypatch):
    fill(tmp_path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(DataError, match=r"a\.csv: cannot be removed \(Permission denied\)"):
        claim_folder(tmp_path, TABLES, overwrite=True)


def test_a_single_file_is_replaced_only_if_the_command_made_it(tmp_path):
    mine, made = tmp_path / "mine.png", tmp_path / "made.png"
    for file in (mine, made):
        file.touch()
    add_to_record(tmp_path, "infer", [made])
    check_own(made, "infer")
    check_own(tmp_path / "new.png", "infer")
    for file, command in ((mine, "infer"), (made, "colorize")):
        with pytest.raises(
            DataError, match=f"{file.name}: there is no record that `heartseg {command}` made"
        ):
            check_own(file, command)
