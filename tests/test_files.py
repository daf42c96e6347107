import errno
import logging
import os
import re
import stat
import sys

import pytest

from heartseg.errors import DataError
from heartseg.files import (
    image_stem,
    list_files,
    logging_once,
    natural_key,
    read_json,
    remove_unfinished,
    replacing,
    replacing_all,
    write_json,
)

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


def test_several_files_are_replaced_together_or_not_at_all(tmp_path):
    files = [tmp_path / "new" / name for name in ("a.txt", "b.txt", "c.txt")]
    with replacing_all(files) as temporary:
        for file in temporary:
            file.write_text(f"first {file.name}")
    with (
        pytest.raises(DataError, match=rf"^{re.escape(str(files[1]))}: cannot be written \(No spa"),
        replacing_all(files) as temporary,
    ):
        temporary[0].write_text("second")
        with replacing(temporary[1]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [file.read_text() for file in files] == [f"first {file.name}" for file in files]

    with replacing_all(files) as temporary:
        temporary[0].write_text("third")
    assert names(tmp_path / "new") == ["a.txt"]
    assert files[0].read_text() == "third"


def test_what_a_killed_writer_left_is_removed_files_and_folders(tmp_path):
    (tmp_path / ".heartseg-x").mkdir()
    (tmp_path / ".heartseg-x" / "a.txt").touch()
    (tmp_path / ".heartseg-y-b.txt").touch()
    (tmp_path / "c.txt").touch()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["c.txt"]


def test_a_notice_is_logged_once_per_block_and_again_in_the_next(tmp_path, caplog):
    (tmp_path / "._a.png").touch()
    caplog.set_level(logging.INFO)

    def count(times):
        caplog.clear()
        for _ in range(times):
            list_files(tmp_path, [".png"])
        return len(caplog.messages)

    @logging_once()
    def command():
        with logging_once():  # A block within a block is part of it.
            inner = count(2)
        return inner, count(2)

    assert [command(), command()] == [(1, 0), (1, 0)]
    assert count(2) == 2
