"""Training on the JAX backend of Keras, in processes of their own: alone, and two together."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
import yaml

from heartseg.config.schema import Config
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model
from heartseg.pipelines.train import run_training
from heartseg.slices.store import write_color, write_gray

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed (heartseg[jax])"),
]
SIZE = 16
TIMEOUT_S = 900

WORKER = """
import sys
from pathlib import Path
import keras, numpy as np
from heartseg.config.loading import load_config
from heartseg.modelfile.checkpoint import load_model
from heartseg.pipelines.train import run_training

config = load_config(Path(sys.argv[1]), sys.argv[2:])
result = run_training(config, resume=True)
if config.parallel.num_processes == 1:
    images = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    np.save(config.run_dir / "answer.npy", load_model(result.best_file).predict(images, verbose=0))
print(keras.backend.backend(), [record.epoch for record in result.history])
"""


def write_slices(folder, num_slices, seed):
    rng = np.random.default_rng(seed)
    for number in range(num_slices):
        labels = np.zeros((SIZE, SIZE), np.uint8)
        row, column = rng.integers(2, 8, 2)
        labels[row : row + 6, column : column + 6] = 1 + number % 3
        image = (labels * 60 + rng.integers(0, 30, labels.shape)).astype(np.uint8)
        write_gray(folder / "images" / f"pat{seed}_{number:03d}.png", image)
        write_color(folder / "masks" / f"pat{seed}_{number:03d}.png", HVSMR.colorize(labels))


@pytest.fixture
def settings(tmp_path):
    write_slices(tmp_path / "set/train", 8, seed=1)
    write_slices(tmp_path / "set/valid", 6, seed=2)
    return {
        "run_dir": str(tmp_path / "run"),
        "data": {"dataset_dir": str(tmp_path / "set")},
        "prepare": {"image_width": SIZE, "image_height": SIZE},
        "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2, "dropout_rate": 0.2},
        "train": {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 0.01,
            "precision": "float32",
            "num_infer_images": 1,
            "augment": {"flip_horizontal": True, "noise": 0.1},
        },
    }


def start(config_file, *overrides):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(config_file), *overrides],
        env={**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*workers):
    said = []
    for worker in workers:
        out, err = worker.communicate(timeout=TIMEOUT_S)
        assert worker.returncode == 0, err[-3000:]
        said.append(out.strip().splitlines()[-1])
    return said


def history(run_dir):
    return json.loads((run_dir / "history.json").read_text())["epochs"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_two_processes_train_and_resume_as_one_and_only_the_first_writes(settings, tmp_path):
    config_file = tmp_path / "run.yaml"
    config_file.write_text(yaml.safe_dump(settings))
    assert finish(start(config_file)) == ["jax [1, 2]"]
    whole = history(tmp_path / "run")

    # Two slices each make the batch of four; the second run goes on where the first stopped.
    for epochs in (1, 2):
        shared = [
            f"run_dir={tmp_path / 'both'}",
            f"train.epochs={epochs}",
            "train.batch_size=2",
            "parallel.num_processes=2",
            f"parallel.coordinator=127.0.0.1:{free_port()}",
        ]
        second = [*shared, "parallel.process_index=1"]
        if epochs == 1:
            second += [f"run_dir={tmp_path / 'nothing'}"]
        said = finish(start(config_file, *second), start(config_file, *shared))
        assert said == [f"jax {list(range(1, epochs + 1))}"] * 2

    for one, both in zip(whole, history(tmp_path / "both"), strict=True):
        for name in ("loss", "val_loss", "dice_coef_multiclass", "learning_rate"):
            assert both[name] == pytest.approx(one[name], rel=1e-5)
    assert not (tmp_path / "nothing").exists()
    boards = list((tmp_path / "both/tensorboard").rglob("events*"))
    # Two runs, each with a file of training and one of validation: none of the second process.
    assert len(boards) == 4

    # What JAX wrote is read by TensorFlow, with the same answers.
    assert keras.backend.backend() == "tensorflow"
    images = np.random.default_rng(0).random((2, SIZE, SIZE, 1), np.float32)
    answer = load_model(tmp_path / "run/best.keras")(images, training=False)
    np.testing.assert_allclose(answer, np.load(tmp_path / "run/answer.npy"), atol=1e-5)


def test_a_run_goes_from_tensorflow_to_jax_and_back(settings, tmp_path):
    settings["train"].update(precision="bfloat16", epochs=1, tensorboard=False)
    run_training(Config(**settings))
    settings["train"]["epochs"] = 2
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert finish(start(tmp_path / "run.yaml")) == ["jax [1, 2]"]
    settings["train"]["epochs"] = 3
    result = run_training(Config(**settings), resume=True)

    assert [record.epoch for record in result.history] == [1, 2, 3]
    # 2 steps an epoch, counted by the optimizer across both backends.
    state = load_model(tmp_path / "run/last/state.keras", compiled=True)
    assert int(state.optimizer.iterations) == 6
    assert state.get_layer("probabilities").dtype_policy.name == "float32"
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in state.layers}
