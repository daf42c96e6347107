import subprocess
import sys

import pytest

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


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline().strip() == b"held"
        with pytest.raises(DataError, match=f"process {owner.pid}"), locked(tmp_path):
            pass
        owner.kill()
    with locked(tmp_path):
        pass


def test_a_folder_is_free_again_after_the_block_however_it_ends(tmp_path):
    with pytest.raises(ValueError, match="broken"), locked(tmp_path):
        raise ValueError("broken")
    with locked(tmp_path):
        assert (tmp_path / LOCK).is_file()


def test_a_folder_that_cannot_be_is_an_error_of_the_data(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"), locked(tmp_path / "file"):
        pass
