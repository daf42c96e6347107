"""Processes killed at random moments: the next run ends as an uninterrupted one would have.

``HEARTSEG_KILLS=200 pytest tests/robustness/test_kill.py`` kills each command more often; a
third as often where a network computes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import make_config, make_scan, read_tree, write_case, write_nifti

from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.split import run_split

KILLS = int(os.environ.get("HEARTSEG_KILLS", "12"))
TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def kill_again_and_again(command, folder, kills=KILLS):
    """Kill a command in many runs; return its output folder and that of an uninterrupted run."""
    ran = subprocess.run(
        [sys.executable, TESTS / "robustness/kill_loop.py", command, folder, str(kills), "1"],
        capture_output=True,
        text=True,
        timeout=120 + 20 * kills,
        env={**os.environ, "PYTHONPATH": str(TESTS), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert int(ran.stdout) == kills
    return folder / "killed", folder / "uninterrupted"


def write_cases(folder):
    for index in range(4):
        write_case(folder / "volumes", f"pat{index}", make_scan((18, 15, 13), seed=index))


def test_a_killed_prepare_is_completed_to_the_same_bytes(tmp_path):
    write_cases(tmp_path)
    killed, uninterrupted = kill_again_and_again("prepare", tmp_path)
    assert read_tree(killed) == read_tree(uninterrupted)


def test_a_killed_split_is_completed_to_the_same_bytes(tmp_path):
    write_cases(tmp_path)
    run_prepare(make_config(tmp_path))
    killed, uninterrupted = kill_again_and_again("split", tmp_path)
    assert read_tree(killed) == read_tree(uninterrupted)


@pytest.mark.slow
def test_killed_train_evaluate_and_infer_end_as_uninterrupted_ones(tmp_path):
    write_cases(tmp_path)
    run_prepare(make_config(tmp_path))
    run_split(make_config(tmp_path))

    killed, uninterrupted = kill_again_and_again("train", tmp_path, KILLS // 3)
    assert read_epochs(killed) == read_epochs(uninterrupted)
    for name in ("train_losses.csv", "train_metrics.csv"):
        assert (killed / name).read_bytes() == (uninterrupted / name).read_bytes()
    one, other = (read_metadata(run / "best.keras")["training"] for run in (killed, uninterrupted))
    assert (one["epoch"], one["val_loss"]) == (other["epoch"], other["val_loss"])
    for left, right in zip(weights(killed), weights(uninterrupted), strict=True):
        np.testing.assert_array_equal(left, right)

    killed.rename(tmp_path / "run")
    uninterrupted.rename(tmp_path / "uninterrupted_run")
    killed, uninterrupted = kill_again_and_again("evaluate", tmp_path, KILLS // 3)
    names = {"cases.csv", "evaluation.csv"}
    assert names <= read_tree(killed).keys() == read_tree(uninterrupted).keys()
    for name in names:
        assert (killed / name).read_bytes() == (uninterrupted / name).read_bytes()

    killed.rename(tmp_path / "evaluated")
    uninterrupted.rename(tmp_path / "uninterrupted_evaluated")
    for index in range(3):
        scan = make_scan((18, 15, 13), seed=10 + index)
        write_nifti(tmp_path / "scans" / f"new{index}.nii.gz", scan.image, scan.affine)
    killed, uninterrupted = kill_again_and_again("infer", tmp_path, KILLS // 3)
    assert read_tree(killed) == read_tree(uninterrupted)


def read_epochs(run_dir):
    epochs = json.loads((run_dir / "history.json").read_text())["epochs"]
    return [{name: epoch[name] for name in epoch if name != "seconds"} for epoch in epochs]


def weights(run_dir):
    return load_model(run_dir / "best.keras").get_weights()
