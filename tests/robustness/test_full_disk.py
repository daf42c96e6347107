"""A full or read-only disk: a clear error, no damaged file, and the next run completes the work.

Needs the right to mount a small tmpfs.
"""

import shutil
import subprocess
from contextlib import contextmanager

import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.errors import HeartsegError
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.split import run_split
from heartseg.pipelines.train import run_training


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
def test_prepare_reports_what_cannot_be_written_and_is_completed_later(tmp_path, options):
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with slices, their split, and a run of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    for index in range(4):
        write_case(folder / "volumes", f"pat{index}", make_scan((18, 15, 13), seed=index))
    config = tiny_config(folder)
    run_prepare(config)
    run_split(config)
    run_training(config)
    return folder


def tiny_config(folder):
    network = {"image_channels": 1, "base_filters": 2, "num_layers": 2}
    train = {"epochs": 1, "precision": "float32", "tensorboard": False}
    return make_config(folder, {"model": network, "train": train})


@pytest.mark.parametrize("options", ["size=20k", "ro"], ids=["full", "read-only"])
@pytest.mark.parametrize("command", ["train", "evaluate", "infer"])
def test_other_commands_complete_once_the_disk_has_space(trained, tmp_path, command, options):
    config, output = tiny_config(trained), tmp_path / "disk" / "out"

    def run():
        if command == "train":
            run_training(config.model_copy(update={"run_dir": output}), resume=True)
        elif command == "evaluate":
            run_evaluation(config, output_dir=output)
        else:
            run_infer(config, [trained / "master" / "images"], output_dir=output)

    with mounted(tmp_path / "disk", options) as mount:
        with pytest.raises(HeartsegError, match=r"cannot be (written|used as a folder)"):
            run()
        subprocess.run([mount, "-o", "remount,rw,size=64m", tmp_path / "disk"], check=True)
        run()
        main = {"train": "best.keras", "evaluate": "cases.csv", "infer": "pat0_004.png"}[command]
        assert (output / main).stat().st_size
