"""All commands, one after the other, as a user runs them: real processes on tiny phantoms."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

SMOKE = Path(__file__).parents[1] / "configs/smoke.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a command in a folder of its own; return the finished process."""
    folder = tmp_path_factory.mktemp("user")

    def run_command(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "heartseg", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "COLUMNS": "200"},
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    run_command.folder = folder
    return run_command


SETTINGS = (
    "data.source_dir=volumes",
    "data.master_dir=master",
    "data.dataset_dir=dataset",
    "run_dir=run",
    "prepare.image_width=32",
    "prepare.image_height=32",
    "model.base_filters=4",
    "model.num_layers=3",
    "train.epochs=2",
    "train.steps_per_epoch=4",
    "train.num_infer_images=1",
    "evaluate.num_bootstrap=50",
)
WITH_CONFIG = [str(SMOKE), *(part for setting in SETTINGS for part in ("--set", setting))]


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_volumes_become_slices_a_model_label_maps_and_scores(run):
    folder = run.folder
    run("synth", "volumes", "--patients", "5", "--size", "32", "--seed", "3")
    prepared = run("prepare", *WITH_CONFIG)
    records = read_rows(folder / "master/manifest.csv")
    assert f"{len(records)} slices of 5 cases" in prepared.stdout

    run("split", *WITH_CONFIG)
    split = json.loads((folder / "dataset/split.json").read_text())
    assert {part: entry["cases"] for part, entry in split["counts"].items()} == {
        "train": 3,
        "valid": 1,
        "test": 1,
    }

    trained = run("train", *WITH_CONFIG)
    assert "epoch 2/2" in trained.stderr
    assert "InitializeLog" not in trained.stderr
    for name in ("best.keras", "last/state.keras", "train_losses.csv", "history.json"):
        assert (folder / "run" / name).is_file()

    test_case = split["cases"]["test"][0]
    run("evaluate", *WITH_CONFIG)
    rows = read_rows(folder / "run/evaluation/cases.csv")
    assert {row["case"] for row in rows} == {test_case}
    assert {row["scope"] for row in rows} == {"full", "required"}
    published = (folder / "run/evaluation/evaluation.csv").read_text()
    assert "dice_coef_multiclass," in published

    image_file = folder / f"volumes/{test_case}_cropped_norm.nii.gz"
    run("infer", *WITH_CONFIG[:1], str(image_file), *WITH_CONFIG[1:], "--output", "results")
    image, labels = (
        nibabel.load(file) for file in (image_file, folder / f"results/{test_case}_seg.nii.gz")
    )
    assert labels.shape == image.shape
    np.testing.assert_array_equal(labels.affine, image.affine)
    assert (folder / f"results/{test_case}_preview.png").is_file()
    # The evaluation scored the same label map that infer writes.
    scored = nibabel.load(folder / f"run/evaluation/predictions/{test_case}_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(labels.dataobj), np.asarray(scored.dataobj))

    run("colorize", f"results/{test_case}_seg.nii.gz", "--output", "colors")
    run("colorize", f"colors/{test_case}_seg", "--decode", "--output", "indices")
    decoded = sorted((folder / "indices").rglob("*.png"))
    assert len(decoded) == labels.shape[2]
    values = {int(v) for file in decoded for v in np.unique(cv2.imread(str(file), 0))}
    assert values == {int(value) for value in np.unique(np.asarray(labels.dataobj))}

    scored = run(
        "evaluate",
        *("--predictions", "results", "--references", "volumes", "--output", "scores"),
        code=0,
    )
    assert "macro average" in scored.stdout

    # Nothing is replaced without being asked.
    for command in ("prepare", "split", "train", "evaluate"):
        refused = run(command, *WITH_CONFIG, code=1)
        assert "--overwrite" in refused.stderr
        assert "Traceback" not in refused.stderr
