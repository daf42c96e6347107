"""The networks of slices side by side: each is trained for equal processor time and scored.

Run ``python benchmarks/networks.py [NAME ...] [--seconds N] [--folder F] [--phantoms F]``.
Data: ``heartseg synth --patients 24 --size 96 --seed 23``; the last four patients are scored, all
others are trained on, and none is used to choose an epoch. A few steps are timed first, so that the
whole of the cosine schedule fits into the time. Score: macro Dice on whole patients, on the grid of
the scan, as ``heartseg evaluate`` has it. One variant after the other, each in a process of its
own; what is done is kept in ``--folder``, so that the same command goes on after an interruption.
Processor time of several cores adds up: run it on one core (``taskset -c 0``) to compare it with
other programs.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _turns import begin, cost_of_command, heartseg

from heartseg.config.loading import load_config
from heartseg.config.schema import Config
from heartseg.config.shipped import read_shipped
from heartseg.evaluation.overlap import dice_per_label
from heartseg.files import list_folder
from heartseg.labels import HVSMR
from heartseg.pipelines.prepare import is_prepared, run_prepare
from heartseg.pipelines.split import run_split
from heartseg.pipelines.train import run_training
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.runs.trained import load_segmenter
from heartseg.scans.volume import read_image, read_label_map
from heartseg.training.callbacks import TrainingProgress

PATIENTS, SIZE, SEED, HELD_OUT = 24, 96, 23, 4
EPOCHS = 12
TIMED_STEPS = 5

PLAIN: Mapping[str, Any] = {
    "prepare": {"image_width": 96, "image_height": 96, "window": "percentile"},
    "model": {
        "image_channels": 1,
        "base_filters": 16,
        "base_kernels": [3, 3],
        "num_layers": 5,
        "dropout_rate": 0,
        "normalization": "batch",
        "activation": "leaky_relu",
    },
    "train": {
        "batch_size": 8,
        "loss": "dice_crossentropy",
        "metrics": [],
        "learning_rate": 0.002,
        "schedule": "cosine",
        "weight_decay": 0.0001,
        "clipvalue": 0,
        "clipnorm": 1,
        "augment": {
            "rotation_degrees": 10,
            "scale": 0.1,
            "shift": 0.05,
            "contrast": 0.2,
            "gamma": 0.2,
            "noise": 0.03,
        },
    },
}
"""What the variants change; a U-Net of 3 x 3 convolutions with batch normalisation."""
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "residual": {"model": {"block": "residual"}},
    "attention": {"model": {"attention": True}},
    "dilation": {"model": {"dilation": [2, 2]}},
    "instance": {"model": {"normalization": "instance"}},
    "unnormalized": {"model": {"normalization": "none"}, "train": {"learning_rate": 0.001}},
    "kernels": {"model": {"base_kernels": [7, 7]}},
    "wide": {"model": {"base_filters": 32}},
    "fine": {"prepare": {"image_width": 128, "image_height": 128}},
    "padded": {"prepare": {"fit": "pad", "spacing_mm": 1.25}},
    "axial": {"prepare": {"plane": "axial"}},
    "empty": {"prepare": {"keep_empty": True}},
    "context-1": {"prepare": {"keep_empty": True}, "model": {"context": 1}},
    "context-2": {"prepare": {"keep_empty": True}, "model": {"context": 2}},
}
"""What each variant changes of ``PLAIN``."""
SHIPPED = {"published": "whole_heart", "recommended": "slices"}
"""Variants that are a configuration of heartseg, by its name."""
NAMES = (*VARIANTS, *SHIPPED)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("names", nargs="*", help=f"of {', '.join(NAMES)}; by default all")
    options.add_argument("--seconds", type=float, default=120, help="processor time of a training")
    options.add_argument("--folder", type=Path, default=Path("networks"), help="of all results")
    options.add_argument("--phantoms", type=Path, help="made here if missing")
    options.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        sys.exit(f"unknown variants: {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}")
    phantoms = given.phantoms or given.folder / "phantoms"
    if given.one:
        measure(given.names[0], phantoms, given.folder, given.seconds)
        return
    begin(f"networks of slices, {given.seconds:g} s of processor time each")
    if not phantoms.is_dir():
        synth = ("synth", phantoms, "--patients", PATIENTS, "--size", SIZE, "--seed", SEED)
        cost_of_command(heartseg(*map(str, synth)))
    results = []
    for name in given.names or NAMES:
        file = result_file(given.folder, name, given.seconds)
        if not file.is_file():
            command = [sys.executable, __file__, name, "--one", "--folder", str(given.folder)]
            command += ["--phantoms", str(phantoms), "--seconds", str(given.seconds)]
            cost_of_command(command)
        results.append(json.loads(file.read_text(encoding="utf-8")))
        print(row(results[-1]), flush=True)
    print("\nby macro Dice:\n" + HEAD)
    for result in sorted(results, key=lambda found: -found["macro_dice"]):
        print(row(result))


def result_file(folder: Path, name: str, seconds: float) -> Path:
    return folder / f"{name}_{seconds:g}s" / "result.json"


HEAD = (
    "| variant | macro Dice | whole heart | parameters | ms of processor time per step "
    "| steps x batch | training, s | predicting four patients, s |\n"
    "|---|---|---|---|---|---|---|---|"
)


def row(found: Mapping[str, Any]) -> str:
    return (
        f"| {found['name']} | {found['macro_dice']:.3f} | {found['whole_heart_dice']:.3f} "
        f"| {found['parameters'] / 1e6:.2f} million | {found['step_s'] * 1000:.0f} "
        f"| {found['steps']} x {found['batch_size']} | {found['training_s']:.0f} "
        f"| {found['prediction_s']:.0f} |"
    )


def describe(name: str, phantoms: Path, folder: Path) -> dict[str, Any]:
    """Return the configuration of a variant as plain values."""
    if name in SHIPPED:
        content = yaml.safe_load(read_shipped(SHIPPED[name]))
    else:
        content = {
            section: {**PLAIN[section], **VARIANTS[name].get(section, {})} for section in PLAIN
        }
    # Variants with the same slices share them.
    prepared = json.dumps(content["prepare"], sort_keys=True).encode()
    slices = folder.parent / f"slices_{hashlib.sha256(prepared).hexdigest()[:8]}"
    images = [file.name for file in list_folder(phantoms) if file.name.endswith("_norm.nii.gz")]
    cases = [image.removesuffix("_cropped_norm.nii.gz") for image in images]
    return {
        **content,
        "run_dir": str(folder / "run"),
        "data": {
            "source_dir": str(phantoms),
            "master_dir": str(slices / "master"),
            "dataset_dir": str(slices / "dataset"),
        },
        "split": {
            "train_cases": cases[:-HELD_OUT],
            "valid_cases": [],
            "test_cases": cases[-HELD_OUT:],
        },
        "train": {**content["train"], "tensorboard": False, "epoch_change_infer": False},
        "parallel": {"jobs": 1},
    }


def measure(name: str, phantoms: Path, results: Path, seconds: float) -> None:
    """Train and score one variant, and write its result."""
    file = result_file(results, name, seconds)
    folder = file.parent
    folder.mkdir(parents=True, exist_ok=True)
    config_file = folder / "config.yaml"
    config_file.write_text(yaml.safe_dump(describe(name, phantoms, folder)), encoding="utf-8")
    config = load_config(config_file)
    if not is_prepared(config):
        run_prepare(config, overwrite=True)
        run_split(config, overwrite=True)

    step_s, epoch_end_s = time_steps(config)
    steps = max(1, int((seconds / EPOCHS - epoch_end_s) / step_s))
    chosen = {"epochs": EPOCHS, "patience": EPOCHS, "steps_per_epoch": steps}
    config = config.model_copy(update={"train": config.train.model_copy(update=chosen)})
    started = time.process_time()
    run_training(config, overwrite=True)
    trained = time.process_time()
    macro, whole_heart = score(config, phantoms)
    result = {
        "name": name,
        "macro_dice": macro,
        "whole_heart_dice": whole_heart,
        "parameters": count_parameters(config),
        "step_s": step_s,
        "steps": EPOCHS * steps,
        "batch_size": config.train.batch_size,
        "training_s": trained - started,
        "prediction_s": time.process_time() - trained,
    }
    file.write_text(json.dumps(result, indent=1), encoding="utf-8")


def score(config: Config, phantoms: Path) -> tuple[float, float]:
    """Return the macro average of Dice over the test patients, and that of the whole heart."""
    segmenter = load_segmenter(RunLayout(config.run_dir).best, config)
    macros, wholes = [], []
    for case in config.split.test_cases or ():
        found = segmenter.segment(read_image(phantoms / f"{case}_cropped_norm.nii.gz")).labels
        reference = read_label_map(phantoms / f"{case}_cropped_seg.nii.gz", HVSMR).voxels
        # NaN where the patient has no such structure and none was found.
        macros.append(float(np.nanmean(dice_per_label(found, reference, HVSMR.num_classes))))
        masks = [(labels > 0).astype(np.uint8) for labels in (found, reference)]
        wholes.append(float(dice_per_label(*masks, 2)[0]))
    return float(np.mean(macros)), float(np.mean(wholes))


def time_steps(config: Config) -> tuple[float, float]:
    """Return the processor time of a step, and of what follows the last step of an epoch."""
    ends: list[tuple[TrainingProgress, float]] = []
    few = {"epochs": 2, "patience": 2, "steps_per_epoch": TIMED_STEPS}
    trial = config.model_copy(
        update={
            "train": config.train.model_copy(update=few),
            "run_dir": config.run_dir.with_name("trial"),
        }
    )
    run_training(
        trial, overwrite=True, track=lambda progress: ends.append((progress, time.process_time()))
    )
    steps = [at for progress, at in ends if progress.epoch == 2 and not progress.is_epoch_end]
    step_s = (steps[-1] - steps[0]) / (len(steps) - 1)
    return step_s, ends[-1][1] - steps[-1]


def count_parameters(config: Config) -> int:
    """Return the number of trainable weights."""
    network = find_kind(config.model.kind).build_network(config)
    return sum(math.prod(weight.shape) for weight in network.trainable_weights)


if __name__ == "__main__":
    main()
