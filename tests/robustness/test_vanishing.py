"""Files that disappear during a command or must not be read: an error, and nothing else is lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.config.loading import dump_config
from heartseg.errors import HeartsegError
from heartseg.pipelines.colorize import run_colorize
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.score_label_maps import run_scoring
from heartseg.pipelines.score_model import run_evaluation
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
    "evaluate": {"num_bootstrap": 50},
}


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A folder with the inputs of every command."""
    folder = tmp_path_factory.mktemp("ready")
    write_volumes(folder / "volumes")
    config = make_config(folder, TINY)
    run_prepare(config)
    run_split(config)
    run_training(config)
    run_infer(config, [folder / "volumes"], output_dir=folder / "found")
    return folder


def write_volumes(folder):
    for index in range(8):
        write_case(folder, f"pat{index}", make_scan((18, 15, 13), seed=index))


class Thief:
    """A progress callback that takes a file away after some items."""

    def __init__(self, file, after=1):
        self.file, self._after, self._kept = file, after, file.with_name("taken-away")

    def __call__(self, done, *_):
        if done == self._after and self.file.exists():
            self.file.rename(self._kept)

    def bring_back(self):
        self._kept.rename(self.file)


def copy(ready, tmp_path):
    """Copy the ready folder, so that no test changes the input of another."""
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
    # The record holds the times of the sources, which are copies.
    state = {"prepare.json"}
    uninterrupted, completed = read_tree(ready / "master"), read_tree(folder / "master")
    assert completed.keys() == uninterrupted.keys()
    assert all(completed[file] == uninterrupted[file] for file in completed.keys() - state)


def test_split_reports_the_slice_and_starts_over(ready, tmp_path):
    folder = copy(ready, tmp_path)
    config = make_config(folder, {**TINY, "data": {"dataset_dir": folder / "again"}})
    uninterrupted = read_tree(folder / "dataset")
    victim = sorted((folder / "dataset/test/images").iterdir())[-1].name
    thief = Thief(folder / "master/images" / victim)
    with pytest.raises(HeartsegError, match=rf"{thief.file}: is named in the manifest"):
        run_split(config, report=thief)
    thief.bring_back()
    run_split(config)
    assert read_tree(folder / "again") == uninterrupted


@pytest.mark.parametrize("part", ["images", "masks"])
def test_train_reports_the_slice_and_can_be_resumed(ready, tmp_path, part):
    folder = copy(ready, tmp_path)
    shutil.rmtree(folder / "run")
    config = make_config(folder, TINY)
    thief = Thief(sorted((folder / "dataset/train" / part).iterdir())[0])

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


def test_evaluate_scores_the_other_cases(ready, tmp_path):
    folder = copy(ready, tmp_path)
    split = {"train_cases": [f"pat{i}" for i in range(4)], "valid_cases": ["pat4"]}
    split["test_cases"] = ["pat5", "pat6", "pat7"]
    config = make_config(folder, {**TINY, "split": split})
    run_split(config, overwrite=True)
    thief = Thief(folder / "volumes/pat6_cropped_norm.nii.gz")
    with pytest.raises(HeartsegError, match=rf"1 of 3 test cases[\s\S]*{thief.file}: no such file"):
        run_evaluation(config, report=thief)
    rows = (folder / "run/evaluation/cases.csv").read_text().splitlines()[1:]
    assert {row.partition(",")[0] for row in rows} == {"pat5", "pat7"}


def test_infer_segments_the_other_scans(ready, tmp_path):
    folder = copy(ready, tmp_path)
    thief = Thief(folder / "volumes/pat6_cropped_norm.nii.gz")
    with pytest.raises(HeartsegError, match=rf"1 of 8 inputs[\s\S]*{thief.file}: no such file"):
        run_infer(
            make_config(folder, TINY),
            [folder / "volumes"],
            output_dir=folder / "again",
            report=thief,
        )
    assert not (folder / "again/pat6_seg.nii.gz").exists()
    for name in ("pat0_seg.nii.gz", "pat7_seg.nii.gz", "pat7_preview.png"):
        assert (folder / "again" / name).read_bytes() == (ready / "found" / name).read_bytes()


def test_infer_segments_the_other_pictures(ready, tmp_path):
    folder = copy(ready, tmp_path)
    pictures = folder / "dataset/test/images"
    thief = Thief(sorted(pictures.iterdir())[-1])
    config = make_config(folder, {**TINY, "infer": {"batch_size": 1}})
    with pytest.raises(HeartsegError, match=rf"1 of \d+ inputs[\s\S]*{thief.file}: no such file"):
        run_infer(config, [pictures], output_dir=folder / "again", report=thief)
    assert len(list((folder / "again").glob("*.png"))) == len(list(pictures.iterdir())) - 1


def test_scoring_and_colorizing_continue_with_the_others(ready, tmp_path):
    folder = copy(ready, tmp_path)
    config = make_config(folder, TINY)
    thief = Thief(folder / "found/pat6_seg.nii.gz")
    with pytest.raises(HeartsegError, match=rf"{thief.file}: no such file"):
        run_scoring(config, folder / "found", folder / "volumes", report=thief)
    assert "pat7," in (folder / "found/evaluation/cases.csv").read_text()
    thief.bring_back()
    maps = sorted((folder / "found").glob("*_seg.nii.gz"))
    with pytest.raises(HeartsegError, match=rf"{thief.file}: no such file"):
        run_colorize(maps, table=config.label_table, output_dir=folder / "colors", report=thief)
    assert len(list((folder / "colors").iterdir())) == len(maps) - 1


# The superuser may read every file unless it drops CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, for
# itself and for the programs that it executes.
WITHOUT_PRIVILEGE = """
import ctypes, os, sys
if sys.platform == "linux":
    PR_CAPBSET_DROP = 24
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
SCAN = "volumes/pat3_cropped_norm.nii.gz"
MAP = "volumes/pat3_cropped_seg.nii.gz"
SLICE = "dataset/train/images/pat0_005.png"
MODEL = "run/best.keras"
SCORE = ("--predictions", "volumes", "--references", "volumes", "--output", "out")
FORBIDDEN = [
    ("config.yaml", ("prepare", "config.yaml")),
    ("config.yaml", ("inspect", "config.yaml")),
    (SCAN, ("prepare", "config.yaml")),
    ("volumes", ("prepare", "config.yaml")),
    ("run.log", ("prepare", "config.yaml", "--log-file", "run.log")),
    ("master/manifest.csv", ("split", "config.yaml")),
    (SLICE, ("train", "config.yaml")),
    ("dataset/valid", ("train", "config.yaml")),
    (MODEL, ("evaluate", "config.yaml")),
    (MAP, ("evaluate", *SCORE)),
    (SCAN, ("infer", "config.yaml", "volumes", "--output", "out")),
    (MODEL, ("infer", "config.yaml", "volumes", "--output", "out")),
    ("out", ("infer", "config.yaml", SCAN, "--output", "out/x")),
    (MAP, ("colorize", MAP, "--output", "out")),
    ("out", ("synth", "out/volumes", "--patients", "1", "--size", "32")),
]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX rights")
@pytest.mark.parametrize(
    ("forbidden", "arguments"), FORBIDDEN, ids=[f"{a[0]} {f}" for f, a in FORBIDDEN]
)
def test_a_file_that_must_not_be_read_or_written_is_one_error_with_its_path(
    ready, tmp_path, forbidden, arguments
):
    folder = copy(ready, tmp_path)
    output = {"prepare": "master", "split": "dataset", "train": "run", "evaluate": "run/evaluation"}
    shutil.rmtree(folder / output.get(arguments[0], "out"), ignore_errors=True)
    (folder / "config.yaml").write_text(dump_config(make_config(Path(), TINY)))
    if not (folder / forbidden).exists():
        (folder / forbidden).mkdir() if forbidden == "out" else (folder / forbidden).touch()
    (folder / forbidden).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PRIVILEGE, "-m", "heartseg", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (folder / forbidden).chmod(0o700)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    problems = [line for line in done.stderr.splitlines() if "ermission denied" in line]
    assert len(problems) == 1, done.stderr
    assert forbidden in problems[0]


def test_a_folder_or_a_dangling_link_in_place_of_a_file_is_reported(ready, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(ready / "volumes", folder / "volumes")
    names = [folder / f"volumes/pat{index}_cropped_norm.nii.gz" for index in (1, 2)]
    for file in names:
        file.unlink()
    names[0].mkdir()
    names[1].symlink_to(folder / "nowhere.nii.gz")
    with pytest.raises(HeartsegError, match="2 of 8 cases could not be prepared") as raised:
        run_prepare(make_config(folder, TINY))
    assert [problem.partition(": ")[0] for problem in raised.value.problems] == [*map(str, names)]
