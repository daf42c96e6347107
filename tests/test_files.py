import os
import stat
import sys

import pytest

from heartseg.errors import DataError
from heartseg.files import (
    TEMPORARY_PREFIX,
    UNFINISHED,
    claim_folder,
    filling,
    image_stem,
    natural_key,
    read_json,
    replacing,
    write_json,
)
from heartseg.lock import LOCK

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file modes")


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    file = tmp_path / "new" / "a.txt"
    with replacing(file) as temporary:
        temporary.write_text("complete")
        assert not file.exists()
        assert temporary.suffix == ".txt"
    assert file.read_text() == "complete"
    assert names(file.parent) == ["a.txt"]


def test_a_failure_keeps_the_earlier_file_and_leaves_nothing_else(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("earlier")
    with pytest.raises(KeyError), replacing(file) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert file.read_text() == "earlier"
    assert names(tmp_path) == ["a.txt"]


@posix_only
def test_a_new_file_has_the_mode_of_an_ordinary_one(tmp_path):
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "replaced") as temporary:
        temporary.touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "replaced")}
    assert len(modes) == 1


def test_a_folder_that_cannot_be_created_is_an_error_of_the_file(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DataError, match=r"a\.txt: cannot be written"),
        replacing(tmp_path / "file" / "a.txt"),
    ):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_is_reported_with_the_file(tmp_path):
    with (
        pytest.raises(DataError, match=r"a\.txt: cannot be written \(No space left on device\)"),
        replacing(tmp_path / "a.txt"),
        open("/dev/full", "w") as full,  # noqa: PTH123
    ):
        full.write("x")
        full.flush()
    assert names(tmp_path) == []


def test_claiming_an_empty_or_new_folder_succeeds(tmp_path):
    claim_folder(tmp_path / "new", (), overwrite=False)
    claim_folder(tmp_path / "new", (), overwrite=False)
    assert (tmp_path / "new").is_dir()


def test_claiming_a_folder_that_is_not_empty_asks_for_overwrite(tmp_path):
    (tmp_path / "results.csv").touch()
    with pytest.raises(DataError, match=r"already holds results\.csv; pass --overwrite"):
        claim_folder(tmp_path, ("*.csv",), overwrite=False)
    assert names(tmp_path) == ["results.csv"]


def test_overwriting_removes_only_the_files_of_the_command(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").touch()
    claim_folder(tmp_path, ("train", "*.csv"), overwrite=True)
    assert names(tmp_path) == ["notes.txt"]


@posix_only
def test_overwriting_does_not_follow_links_out_of_the_folder(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train").symlink_to(outside)
    claim_folder(folder, ("train",), overwrite=True)
    assert names(folder) == []
    assert names(outside) == ["keep"]


def test_claiming_a_file_as_a_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be used as a folder"):
        claim_folder(tmp_path / "file", (), overwrite=True)


def test_leftovers_of_an_interrupted_writer_do_not_count_as_results(tmp_path):
    (tmp_path / f"{TEMPORARY_PREFIX}x-a.png").touch()
    claim_folder(tmp_path, (), overwrite=False)
    assert names(tmp_path) == []


def test_a_folder_that_is_complete_has_no_marker(tmp_path):
    with filling(tmp_path / "out", ("*.txt",), overwrite=False):
        assert (tmp_path / "out" / UNFINISHED).is_file()
        (tmp_path / "out" / "a.txt").touch()
    assert names(tmp_path / "out") == ["a.txt"]
    with (
        pytest.raises(DataError, match=r"already holds a\.txt"),
        filling(tmp_path / "out", ("*.txt",), overwrite=False),
    ):
        pass


def test_a_folder_left_incomplete_is_filled_again_without_overwrite(tmp_path):
    with pytest.raises(KeyError), filling(tmp_path, ("*.txt",), overwrite=False):
        (tmp_path / "half.txt").touch()
        raise KeyError
    with filling(tmp_path, ("*.txt",), overwrite=False):
        assert names(tmp_path) == [UNFINISHED, LOCK]


def test_a_marker_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / UNFINISHED).mkdir()
    with (
        pytest.raises(DataError, match=rf"{UNFINISHED}: cannot be written"),
        filling(tmp_path, (), overwrite=True),
    ):
        pass


def test_an_earlier_result_that_cannot_be_removed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a.txt").touch()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(DataError, match=r"a\.txt: cannot be removed \(Permission denied\)"):
        claim_folder(tmp_path, ("*.txt",), overwrite=True)


def test_json_survives_the_way_to_disk_and_back(tmp_path):
    content = {"name": "Herz ♥", "values": [1, 2.5, None]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1]", "expected a JSON object, found a value of type list"),
        (b"", "cannot be read as JSON"),
    ],
)
def test_broken_json_is_an_error_with_the_file(tmp_path, content, problem):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.json: {problem}"):
        read_json(file)
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")


def test_numbers_in_names_are_sorted_by_value():
    wanted = ["pat2", "pat2_9", "pat2_10", "pat10", "pat10b", "patient"]
    assert sorted({*wanted}, key=natural_key) == wanted


def test_any_two_names_can_be_compared():
    strange = ["", "7", "a7", "07", "a", "٣", "²", "a.7", "7a7", "é1", "-1"]
    for name in strange:
        for other in strange:
            smaller = natural_key(name) < natural_key(other)
            assert smaller + (natural_key(other) < natural_key(name)) + (name == other) == 1


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("a.nii", "a"), ("a.b.png", "a.b"), ("a.tar.gz", "a.tar"), ("a", "a")],
)
def test_the_stem_has_neither_suffix_of_a_volume(tmp_path, name, stem):
    assert image_stem(tmp_path / name) == stem
