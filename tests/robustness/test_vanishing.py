"""Files that vanish midway, or may not be read: named in the error, and nothing else is lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from builders import make_config, make_scan, read_tree, write_case

from heartseg.errors import HeartsegError
from heartseg.pipelines.colorize import run_colorize
from heartseg.pipelines.evaluate import run_scoring
from heartseg.pipelines.evaluate_run import run_evaluation
from heartseg.pipelines.infer import run_infer
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
    "evaluate": {"num_bootstrap": 50},
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
    run_infer(config, [folder / "volumes"], output_dir=folder / "found")
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


@pytest.mark.parametrize("part", ["images", "masks"])
def test_train_names_the_slice_and_goes_on_later(ready, tmp_path, part):
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
    tested = sorted({f.name.partition("_")[0] for f in (folder / "dataset/test/images").iterdir()})
    split = {"train_cases": [f"pat{i}" for i in range(4)], "valid_cases": ["pat4"]}
    split["test_cases"] = ["pat5", "pat6", "pat7"]
    config = make_config(folder, {**TINY, "split": split})
    run_split(config, overwrite=True)
    assert tested
    thief = Thief(folder / "volumes/pat6_cropped_norm.nii.gz")
    with pytest.raises(HeartsegError, match=rf"1 of 3 test cases[\s\S]*{thief.file}: no such file"):
        run_evaluation(config, report=thief)
    scored = (folder / "run/evaluation/cases.csv").read_text()
    assert "pat5," in scored
    assert "pat6," not in scored
    assert "pat7," in scored


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


def test_scoring_and_colorizing_go_on_with_the_others(ready, tmp_path):
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


# The superuser reads what it likes, so that the command gives its rights away first, when all
# that it imports is loaded.
UNPRIVILEGED = """
import importlib, os, sys
from heartseg.cli import app, console
for module in sys.argv[1].split(","):
    importlib.import_module(f"heartseg.{module}")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.argv[1:] = sys.argv[2:]
app.main()
"""
SCAN = "volumes/pat3_cropped_norm.nii.gz"
MAP = "volumes/pat3_cropped_seg.nii.gz"
FORBIDDEN = {
    "config": ("config.yaml", "config.loading", ("prepare", "config.yaml")),
    "prepare": (SCAN, "pipelines.prepare", ("prepare", "config.yaml")),
    "split": ("master/manifest.csv", "pipelines.split", ("split", "config.yaml")),
    "infer": (
        *(SCAN, "pipelines.infer,inference.network,model.checkpoint"),
        ("infer", "config.yaml", "volumes", "--output", "out"),
    ),
    "model": (
        *("run/best.keras", "pipelines.infer,inference.network,model.checkpoint"),
        ("infer", "config.yaml", "volumes", "--output", "out"),
    ),
    "score": (
        *(MAP, "pipelines.evaluate,evaluation.report"),
        ("evaluate", "--predictions", "volumes", "--references", "volumes", "--output", "out"),
    ),
    "colorize": (MAP, "pipelines.colorize", ("colorize", MAP, "--output", "out")),
    "source folder": ("volumes", "pipelines.prepare", ("prepare", "config.yaml")),
    "output folder": (
        "out",
        "pipelines.infer",
        ("infer", "config.yaml", SCAN, "--output", "out/x"),
    ),
    "log file": ("run.log", "config.loading", ("prepare", "config.yaml", "--log-file", "run.log")),
}


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs POSIX rights")
@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_may_not_be_read_or_written_is_one_error_that_names_it(ready, tmp_path, what):
    forbidden, modules, arguments = FORBIDDEN[what]
    folder = copy(ready, tmp_path)
    for output in ("master", "dataset") if what in ("config", "prepare", "source folder") else ():
        shutil.rmtree(folder / output)
    settings = make_config(Path(), {**TINY, "data": {}}).model_dump(mode="json")
    for key, name in (
        ("source_dir", "volumes"),
        ("master_dir", "master"),
        ("dataset_dir", "dataset"),
    ):
        settings["data"][key] = name
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "run_dir": "run"}))
    if forbidden == "out":
        (folder / forbidden).mkdir()
    (folder / forbidden).touch()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    for parent in folder.parents:
        # pytest closes its folders to others.
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    (folder / forbidden).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, modules, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "MPLCONFIGDIR": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    (folder / forbidden).chmod(0o777)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    problems = [line for line in done.stderr.splitlines() if "ermission denied" in line]
    assert len(problems) == 1, done.stderr
    assert forbidden in problems[0]


def test_a_folder_or_a_dangling_link_in_place_of_a_file_is_named(ready, tmp_path):
    folder = tmp_path / "work"
    shutil.copytree(ready / "volumes", folder / "volumes")
    names = [folder / f"volumes/pat{index}_cropped_norm.nii.gz" for index in (1, 2)]
    for file in names:
        file.unlink()
    names[0].mkdir()
    names[1].symlink_to(folder / "nowhere.nii.gz")
    with pytest.raises(HeartsegError, match="2 of 8 cases could not be prepared") as raised:
        run_prepare(make_config(folder, TINY))
    assert [
        str(file) in problem for file, problem in zip(names, raised.value.problems, strict=True)
    ]
    assert len(raised.value.problems) == 2
