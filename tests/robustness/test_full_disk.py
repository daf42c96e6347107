"""A disk that is full or read-only: a clear error, nothing damaged, and the next run completes.

Needs the right to mount a small tmpfs.
"""

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.errors import HeartsegError
from heartseg.pipelines.prepare import run_prepare


@contextmanager
def mounted(folder, options):
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("no mount command")
    command = [mount, "-t", "tmpfs", "-o", options, "none", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted")
    try:
        yield mount
    finally:
        subprocess.run([shutil.which("umount"), folder], check=True)


@pytest.mark.parametrize("options", ["size=64k", "ro"], ids=["full", "read-only"])
def test_prepare_says_what_cannot_be_written_and_is_completed_later(tmp_path, options):
    for index in range(3):
        write_case(tmp_path / "volumes", f"pat{index}", make_scan((18, 15, 13), seed=index))
    disk = tmp_path / "disk"
    config = make_config(tmp_path, {"data": {"master_dir": disk / "master"}})
    with mounted(disk, options) as mount:
        with pytest.raises(HeartsegError, match=r"cannot be (written|used as a folder)"):
            run_prepare(config)
        for file in disk.rglob("*.png"):
            assert file.read_bytes().endswith(b"IEND\xaeB`\x82")
        subprocess.run([mount, "-o", "remount,rw,size=8m", disk], check=True)
        run_prepare(config)
        result = read_tree(disk / "master")
    run_prepare(make_config(tmp_path))
    assert result == read_tree(tmp_path / "master")
