"""The command `train` on tiny slices: what it writes, refuses, and survives."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import yaml
from builders import list_visible

from heartseg.cohort.split_record import SplitRecord, write_split_record
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.labels import HVSMR
from heartseg.lock import LOCK, locked
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.pipelines.train import run_training
from heartseg.runs import slice_training
from heartseg.slices.store import read_color, write_color, write_gray
from heartseg.training import loop

SIZE = 16


def write_slices(folder, num_slices, seed):
    rng = np.random.default_rng(seed)
    for number in range(num_slices):
        labels = np.zeros((SIZE, SIZE), np.uint8)
        row, column = rng.integers(2, 8, 2)
        labels[row : row + 6, column : column + 6] = 1 + number % 3
        image = (labels * 60 + rng.integers(0, 30, labels.shape)).astype(np.uint8)
        name = f"pat{seed}_{number:03d}.png"
        write_gray(folder / "images" / name, image)
        write_color(folder / "masks" / name, HVSMR.colorize(labels))


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    write_slices(folder / "train", 7, seed=1)
    write_slices(folder / "valid", 3, seed=2)
    return folder


def settings(dataset_dir, run_dir, **train):
    return {
        "run_dir": str(run_dir),
        "data": {"dataset_dir": str(dataset_dir)},
        "prepare": {"image_width": SIZE, "image_height": SIZE},
        "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2, "dropout_rate": 0.2},
        "train": {
            "epochs": 3,
            "learning_rate": 0.01,
            "precision": "float32",
            "num_infer_images": 2,
            "tensorboard": False,
            "augment": {"flip_horizontal": True, "noise": 0.1},
            **train,
        },
    }


def train(dataset_dir, run_dir, *, train=None, **options):
    return run_training(Config(**settings(dataset_dir, run_dir, **(train or {}))), **options)


def weights(model_file):
    return load_model(model_file).get_weights()


@pytest.fixture(scope="module")
def finished(dataset_dir, tmp_path_factory):
    """A run of three epochs and what it told of its progress."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    told = []
    result = train(dataset_dir, run_dir, train={"tensorboard": True}, track=told.append)
    return run_dir, result, told


def test_a_run_writes_everything_that_describes_it(finished):
    run_dir, result, _ = finished
    held = set(list_visible(run_dir))
    assert held >= {
        "best.keras", "last", "train_losses.csv", "train_metrics.csv", "train_losses.png",
        "train_metrics.png", "history.json", "epoch_change_infer", "tensorboard",
        "model_summary.txt", "environment.json", "config.yaml",
    }  # fmt: skip
    header, *rows = (run_dir / "train_losses.csv").read_text().splitlines()
    assert header == "epoch,loss,val_loss"
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]
    header = (run_dir / "train_metrics.csv").read_text().splitlines()[0]
    assert header == "epoch,dice_coef_multiclass,val_dice_coef_multiclass"
    history = json.loads((run_dir / "history.json").read_text())["epochs"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert min(entry["val_loss"] for entry in history) == result.best_loss
    assert any((run_dir / "tensorboard").rglob("events*"))
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["train"]["epochs"] == 3


def test_the_best_model_carries_recipe_labels_and_its_epoch(finished):
    run_dir, result, _ = finished
    metadata = read_metadata(run_dir / "best.keras")
    assert metadata["recipe"]["image_height"] == SIZE
    assert [entry["key"] for entry in metadata["labels"]][:2] == ["background", "LV"]
    assert metadata["training"]["epoch"] == result.best_epoch
    assert load_model(run_dir / "best.keras").input_shape == (None, SIZE, SIZE, 1)


def test_the_fullest_validation_slices_are_segmented_after_each_epoch(finished):
    run_dir, _, _ = finished
    masks = sorted(file.name for file in (run_dir / "epoch_change_infer").glob("Epoch_*"))
    names = sorted({name.partition("_pat")[2] for name in masks})
    assert len(names) == 2
    assert masks == [f"Epoch_00{epoch}_pat{name}" for epoch in (1, 2, 3) for name in names]
    picture = read_color(run_dir / "epoch_change_infer" / masks[0])
    assert picture.shape == (SIZE, 2 * SIZE, 3)
    # The scan at the left has no colours, the mask at the right those of the table alone.
    assert (picture[:, :SIZE, 0] == picture[:, :SIZE, 2]).all()
    HVSMR.decode(np.ascontiguousarray(picture[:, SIZE:]))


def test_progress_counts_steps_and_ends_each_epoch(finished):
    _, _, told = finished
    steps = [(entry.epoch, entry.step) for entry in told if not entry.is_epoch_end]
    assert steps == [(epoch, step) for epoch in (1, 2, 3) for step in (1, 2, 3, 4)]
    ends = [entry for entry in told if entry.is_epoch_end]
    assert [entry.epoch for entry in ends] == [1, 2, 3]
    assert all("val_loss" in entry.logs for entry in ends)


def test_training_leaves_the_dtype_policy_alone(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path / "run", train={"epochs": 1, "precision": "bfloat16"})
    assert keras.config.dtype_policy().name == "float32"
    model = load_model(tmp_path / "run" / "best.keras")
    assert model.get_layer("probabilities").dtype_policy.name == "float32"
    assert "mixed_bfloat16" in {layer.dtype_policy.name for layer in model.layers}


def test_a_folder_that_holds_a_run_is_neither_replaced_nor_continued_unasked(finished, dataset_dir):
    run_dir, _, _ = finished
    before = (run_dir / "best.keras").read_bytes()
    with pytest.raises(DataError, match=r"--resume .* --overwrite"):
        train(dataset_dir, run_dir)
    assert (run_dir / "best.keras").read_bytes() == before


def test_overwriting_keeps_what_training_did_not_write(dataset_dir, tmp_path):
    train(dataset_dir, tmp_path, train={"epochs": 1})
    (tmp_path / "notes.txt").write_text("mine")
    train(dataset_dir, tmp_path, train={"epochs": 2}, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 2


def test_resuming_names_every_setting_that_changed(finished, dataset_dir):
    run_dir, _, _ = finished
    changed = settings(dataset_dir, run_dir, epochs=5, batch_size=3)
    changed["model"]["base_filters"] = 4
    with pytest.raises(ConfigError) as caught:
        run_training(Config(**changed), resume=True)
    assert "model.base_filters: was 2, is 4" in str(caught.value)
    assert "train.batch_size: was 2, is 3" in str(caught.value)
    assert "train.epochs" not in str(caught.value)


def test_a_finished_run_resumed_is_left_as_it_is(finished, dataset_dir):
    run_dir, result, _ = finished
    again = train(dataset_dir, run_dir, resume=True)
    assert again.history == result.history
    assert again.best_epoch == result.best_epoch


def test_an_interrupted_run_resumed_gives_the_weights_of_an_undisturbed_one(
    dataset_dir, tmp_path, monkeypatch
):
    options = {"epochs": 4, "reducer_patience": 1, "metrics": ["dice_per_structure"]}
    whole = train(dataset_dir, tmp_path / "whole", train=options)

    def interrupt(progress):
        if progress.epoch == 3 and progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(dataset_dir, tmp_path / "cut", train=options, track=interrupt)
    assert len(json.loads((tmp_path / "cut" / "history.json").read_text())["epochs"]) == 2
    resumed = train(dataset_dir, tmp_path / "cut", train=options, resume=True)

    assert [r.learning_rate for r in resumed.history] == [r.learning_rate for r in whole.history]
    for before, after in zip(whole.history, resumed.history, strict=True):
        assert after.logs == pytest.approx(before.logs, rel=1e-5, nan_ok=True)
    for name in ("best.keras", "last/state.keras"):
        for one, other in zip(
            weights(tmp_path / "whole" / name), weights(tmp_path / "cut" / name), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_kill_between_last_state_and_best_model_loses_nothing(dataset_dir, tmp_path, monkeypatch):

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Keeper, "_save_best", die)
        with pytest.raises(KeyboardInterrupt):
            train(dataset_dir, tmp_path)
    assert not (tmp_path / "best.keras").exists()
    result = train(dataset_dir, tmp_path, resume=True)
    assert len(result.history) == 3
    assert read_metadata(tmp_path / "best.keras")["training"]["epoch"] == result.best_epoch


def test_training_stops_early_and_says_so_again_when_resumed(dataset_dir, tmp_path):
    # So small a rate that nothing gets better for long.
    options = {"epochs": 30, "learning_rate": 1e-12, "patience": 2}
    result = train(dataset_dir, tmp_path, train=options)
    assert len(result.history) == result.best_epoch + 2
    again = train(dataset_dir, tmp_path, train=options, resume=True)
    assert again.history == result.history


def test_without_validation_slices_epochs_are_judged_by_the_training_loss(
    dataset_dir, tmp_path, caplog
):
    write_slices(tmp_path / "set/train", 5, seed=3)
    for kind in ("images", "masks"):
        (tmp_path / "set/valid" / kind).mkdir(parents=True)
    result = train(tmp_path / "set", tmp_path / "run", train={"epochs": 2})
    losses = [record.logs["loss"] for record in result.history]
    assert result.best_loss == min(losses)
    assert not any("val_loss" in record.logs for record in result.history)
    assert "no validation slices" in caplog.text
    resumed = train(tmp_path / "set", tmp_path / "run", train={"epochs": 3}, resume=True)
    assert [record.epoch for record in resumed.history] == [1, 2, 3]
    assert (tmp_path / "run/epoch_change_infer").is_dir()


def test_a_loss_that_is_no_number_names_the_epoch_and_keeps_the_last_state(dataset_dir, tmp_path):
    options = {"epochs": 3, "precision": "float32"}
    train(dataset_dir, tmp_path, train=options | {"epochs": 1})

    original = keras.losses.SparseCategoricalCrossentropy.call

    def not_a_number(self, y_true, y_pred):
        return original(self, y_true, y_pred) * float("nan")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.losses.SparseCategoricalCrossentropy, "call", not_a_number)
        with pytest.raises(ModelError, match=r"epoch 2: loss is nan"):
            train(dataset_dir, tmp_path, train=options, resume=True)
    result = train(dataset_dir, tmp_path, train=options, resume=True)
    assert [record.epoch for record in result.history] == [1, 2, 3]


def test_a_broken_mask_is_an_error_of_the_data(dataset_dir, tmp_path):
    write_slices(tmp_path / "data" / "train", 3, seed=1)
    write_slices(tmp_path / "data" / "valid", 2, seed=2)
    mask = tmp_path / "data" / "train" / "masks" / "pat1_001.png"
    write_color(mask, np.full((SIZE, SIZE, 3), 7, np.uint8))
    with pytest.raises(DataError, match=r"pat1_001.png.*\(7, 7, 7\)"):
        train(tmp_path / "data", tmp_path / "run")


def test_a_missing_dataset_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="heartseg split"):
        train(tmp_path / "nothing", tmp_path / "run")


def test_what_cannot_fit_is_refused_before_it_is_built(dataset_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(slice_training, "available_bytes", lambda: 10 << 20)
    with pytest.raises(ModelError, match=r"0.0 GiB are free; a smaller train.batch_size"):
        train(dataset_dir, tmp_path)


def test_two_runs_do_not_share_a_folder(dataset_dir, tmp_path):
    with locked(tmp_path), pytest.raises(DataError, match=rf"process {os.getpid()}"):
        train(dataset_dir, tmp_path)
    # What a killed owner leaves behind locks nothing.
    (tmp_path / LOCK).write_text(f" {os.getpid()}\n")
    train(dataset_dir, tmp_path, train={"epochs": 1})


MIRRORED = """
import sys, yaml
from functools import partial
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from heartseg.cohort.split_record import SplitRecord, write_split_record
from heartseg.config.schema import Config
from heartseg.training.placement import placed
from heartseg.pipelines import train
train.placed = partial(placed, devices=["CPU:0", "CPU:1"])
for epochs in (1, 2):
    config = Config(**yaml.safe_load(open(sys.argv[1])))
    section = config.train.model_copy(update={"epochs": epochs})
    result = train.run_training(config.model_copy(update={"train": section}), resume=True)
print(result.history[-1].logs["val_loss"] < result.history[0].logs["loss"], len(result.history))
"""


@pytest.mark.slow
def test_two_devices_share_a_batch_and_resume_together(dataset_dir, tmp_path):
    # 7 and 3 slices: neither divides evenly.
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings(dataset_dir, tmp_path / "run")))
    command = [sys.executable, "-c", MIRRORED, str(tmp_path / "run.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "True 2", done.stderr[-2000:]


def test_the_recipe_of_the_model_is_that_of_the_prepared_slices(dataset_dir, tmp_path, caplog):
    folder = tmp_path / "dataset"
    shutil.copytree(dataset_dir, folder)
    recipe = {"plane": "axial", "window_range": [0.0, 3.0], "image_height": SIZE}
    record = SplitRecord({"train": ("pat1",), "valid": ("pat2",), "test": ()}, recipe=recipe)
    write_split_record(folder / "split.json", record)

    train(folder, tmp_path / "run", train={"epochs": 1})

    found = read_metadata(tmp_path / "run/best.keras")
    assert (found["recipe"]["plane"], found["recipe"]["window_range"]) == ("axial", [0.0, 3.0])
    assert found["learned_from"]["train"]["cases"] == ["pat1"]
    written = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["prepare"]
    assert (written["plane"], written["window_range"]) == ("axial", [0.0, 3.0])
    assert "prepared with prepare.plane: axial, prepare.window_range: [0.0, 3.0]" in caplog.text


def test_a_network_that_does_not_fit_the_prepared_slices_is_refused(dataset_dir, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(dataset_dir, folder)
    record = SplitRecord({"train": ("pat1",), "valid": ("pat2",)}, recipe={"image_height": 15})
    write_split_record(folder / "split.json", record)

    with pytest.raises(ConfigError, match=r"prepare\.image_height: expected a multiple of 2"):
        train(folder, tmp_path / "run")


def test_a_resumed_run_with_other_cases_is_refused_by_name(dataset_dir, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(dataset_dir, folder)
    before = SplitRecord({"train": ("pat1",), "valid": ("pat2",)}, case_hashes={"pat1": "a"})
    write_split_record(folder / "split.json", before)
    train(folder, tmp_path / "run", train={"epochs": 1})

    now = SplitRecord({"train": ("pat3",), "valid": ("pat2",)}, case_hashes={"pat3": "a"})
    write_split_record(folder / "split.json", now)
    with pytest.raises(DataError, match=r"(?s)begun with other data.*train: pat3 joined") as error:
        train(folder, tmp_path / "run", train={"epochs": 2}, resume=True)
    assert "train: pat1 left" in str(error.value)

    write_split_record(folder / "split.json", replace(before, case_hashes={"pat1": "b"}))
    with pytest.raises(DataError, match="train: pat1 changed"):
        train(folder, tmp_path / "run", train={"epochs": 2}, resume=True)


@pytest.mark.parametrize("shortcuts", ["auto", "off"])
def test_shortcuts_can_be_switched_off(dataset_dir, tmp_path, monkeypatch, shortcuts):
    taken = []
    monkeypatch.setattr(loop, "take_shortcuts", taken.append)
    train(dataset_dir, tmp_path, train={"epochs": 1, "shortcuts": shortcuts})
    train(dataset_dir, tmp_path, train={"epochs": 2, "shortcuts": shortcuts}, resume=True)
    assert len(taken) == {"auto": 2, "off": 0}[shortcuts]
