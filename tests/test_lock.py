import errno
import subprocess
import sys

import pytest

from heartseg import lock
from heartseg.errors import DataError
from heartseg.lock import LOCK, locked

HOLD = """
import sys, time
from pathlib import Path
from heartseg.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
COUNT = """
import sys, time
from pathlib import Path
from heartseg.errors import DataError
from heartseg.lock import locked
counter = Path(sys.argv[1]) / "counter"
for _ in range(200):
    while True:
        try:
            with locked(counter.parent):
                counter.write_text(str(int(counter.read_text()) + 1))
            break
        except DataError:
            time.sleep(0.0005)
"""


def test_the_owner_is_reported_and_its_death_frees_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline().strip() == b"held"
        busy = rf"another run \(process {owner.pid}\) is using this folder; wait until it ends"
        with pytest.raises(DataError, match=busy), locked(tmp_path):
            pass
        owner.kill()
    # The file of a dead owner locks nothing.
    assert (tmp_path / LOCK).is_file()
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_free_again_after_the_block_however_it_ends(tmp_path):
    with pytest.raises(ValueError, match="broken"), locked(tmp_path):
        raise ValueError("broken")
    with locked(tmp_path):
        assert (tmp_path / LOCK).is_file()


def test_processes_never_hold_the_lock_at_the_same_time(tmp_path):
    (tmp_path / "counter").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    counters = [subprocess.Popen(command) for _ in range(3)]
    assert [counter.wait(timeout=60) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "600"


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), locked(tmp_path / "file"):
        pass


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(_stream):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(lock, "_acquire", refuse)
    monkeypatch.setattr(lock, "_release", refuse)
    with locked(tmp_path):
        pass
    assert "the file system does not support locks (Operation not supported)" in caplog.text


@pytest.mark.parametrize("below", ["new", "deep/new"])
def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path, below):
    with locked(tmp_path / below):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / below):
        (tmp_path / below / "result").touch()
    assert (tmp_path / below / "result").is_file()
