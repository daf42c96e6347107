"""Files that vanish midway: named in the error, and nothing else is lost."""

import shutil

import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.errors import HeartsegError
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.split import run_split
from heartseg.pipelines.train import run_training

TINY = {
    "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2},
    "train": {
        "epochs": 2,
        "precision": "float32",
        "deterministic": True,
        "tensorboard": False,
        "num_infer_images": 1,
    },
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder in which every command has what it needs."""
    folder = tmp_path_factory.mktemp("ready")
    write_volumes(folder / "volumes")
    config = make_config(folder, TINY)
    run_prepare(config)
    run_split(config)
    run_training(config)
    return folder


def write_volumes(folder):
    for index in range(8):
        write_case(folder, f"pat{index}", make_scan((18, 15, 13), seed=index))


class Thief:
    """A progress listener that takes a file away once so many items are done."""

    def __init__(self, file, after=1):
        self.file, self._after, self._kept = file, after, file.with_name("taken-away")

    def __call__(self, done, *_):
        if done == self._after and self.file.exists():
            self.file.rename(self._kept)

    def bring_back(self):
        self._kept.rename(self.file)


def copy(ready, tmp_path):
    """Copy the ready folder, so that a theft harms one test only."""
    shutil.copytree(ready, tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("suffix", ["norm", "seg"])
def test_prepare_does_the_other_cases_and_is_completed_later(ready, tmp_path, suffix):
    folder = tmp_path / "work"
    shutil.copytree(ready / "volumes", folder / "volumes")
    config = make_config(folder, TINY)
    thief = Thief(folder / f"volumes/pat5_cropped_{suffix}.nii.gz")
    with pytest.raises(HeartsegError, match=rf"1 of 8 cases[\s\S]*{thief.file}: no such file"):
        run_prepare(config, report=thief)
    assert len(list((folder / "master/images").glob("pat4_*.png"))) > 0
    thief.bring_back()
    run_prepare(config)
    # The state holds the time of the sources, which are copies.
    state = {"prepare.json"}
    undisturbed, completed = read_tree(ready / "master"), read_tree(folder / "master")
    assert completed.keys() == undisturbed.keys()
    assert all(completed[file] == undisturbed[file] for file in completed.keys() - state)


def test_split_names_the_slice_and_starts_over(ready, tmp_path):
    folder = copy(ready, tmp_path)
    config = make_config(folder, {**TINY, "data": {"dataset_dir": folder / "again"}})
    undisturbed = read_tree(folder / "dataset")
    victim = sorted((folder / "dataset/test/images").iterdir())[-1].name
    thief = Thief(folder / "master/images" / victim)
    with pytest.raises(HeartsegError, match=rf"{thief.file}: is named in the manifest"):
        run_split(config, report=thief)
    thief.bring_back()
    run_split(config)
    assert read_tree(folder / "again") == undisturbed


def test_train_names_the_slice_and_goes_on_later(ready, tmp_path):
    folder = copy(ready, tmp_path)
    shutil.rmtree(folder / "run")
    config = make_config(folder, TINY)
    thief = Thief(sorted((folder / "dataset/train/images").iterdir())[0])

    def track(progress):
        if progress.is_epoch_end:
            thief(progress.epoch)

    with pytest.raises(HeartsegError, match=rf"{thief.file}: no such file"):
        run_training(config, track=track)
    thief.bring_back()
    result = run_training(config, resume=True)
    assert [record.epoch for record in result.history] == [1, 2]
    names = ("train_losses.csv", "train_metrics.csv")
    assert all(
        (folder / f"run/{n}").read_bytes() == (ready / f"run/{n}").read_bytes() for n in names
    )
