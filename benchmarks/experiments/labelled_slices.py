"""How many labelled slices do pretrained weights save?

Some evenly spaced sagittal slices of one real scan are labelled, the others are not. A network is
trained on that scan alone, once from pretrained weights and once from random ones, and scored on
the slices without labels. Use weights that were trained without this patient: others already
contain the answer.

    python benchmarks/experiments/labelled_slices.py WEIGHTS.keras --case pat58 --counts 4 16

Each line of the result takes minutes of training.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import nibabel
import numpy as np

from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.evaluation.overlap import dice_per_label
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model
from heartseg.modelfile.description import ModelDescription
from heartseg.pipelines.train import run_training
from heartseg.plurals import counted
from heartseg.scans.volume import UNLABELLED, read_image, read_label_map

DATA = os.environ.get("HEARTSEG_DATA", Path(__file__).parents[3] / "shared/data/hvsmr2")
GRID = (48, 64, 48)
STEPS_PER_EPOCH = 50


def label_some(source: Path, folder: Path, case: str, count: int) -> np.ndarray:
    """Copy a case with labels in ``count`` slices only; return the indices of these slices."""
    folder.mkdir(parents=True)
    shutil.copy(source / f"{case}_cropped_norm.nii.gz", folder)
    image = nibabel.load(source / f"{case}_cropped_seg.nii.gz")
    labels = np.asarray(image.dataobj).astype(np.int16)
    held = np.flatnonzero(labels.any(axis=(0, 1)))
    chosen = held[np.round(np.linspace(0, len(held) - 1, count + 2)[1:-1]).astype(int)]
    partial = np.full_like(labels, UNLABELLED)
    partial[:, :, chosen] = labels[:, :, chosen]
    file = folder / f"{case}_cropped_seg.nii.gz"
    nibabel.save(nibabel.Nifti1Image(partial, image.affine), file)
    return chosen


def train(folder: Path, run_dir: Path, case: str, *, init: str | None, steps: int) -> Path:
    """Train on the labelled slices and return the model."""
    config = Config.model_validate(
        {
            "run_dir": str(run_dir),
            "data": {"source_dir": str(folder)},
            "split": {"train_cases": [case], "valid_cases": [], "test_cases": []},
            "model": {"kind": "whole_heart", "grid": list(GRID)},
            "synthesis": {"scan_share": 1},
            "train": {
                "epochs": steps // STEPS_PER_EPOCH,
                "steps_per_epoch": STEPS_PER_EPOCH,
                "patience": steps,
                "batch_size": 1,
                "loss": "dice_crossentropy",
                "metrics": [],
                "learning_rate": 5e-4 if init else 1.5e-3,
                "schedule": "cosine",
                "weight_decay": 1e-4,
                "clipvalue": 0,
                "clipnorm": 1,
                "init": init,
                "epoch_change_infer": False,
                "tensorboard": False,
            },
        }
    )
    return run_training(config).best_file


def score(model_file: Path, source: Path, case: str, labelled: np.ndarray) -> float:
    """Return the macro average of Dice over the slices without labels; 0 without a prediction."""
    segmenter = WholeHeartSegmenter(
        compile_volume_predict(load_model(model_file)),
        ModelDescription.for_whole_heart(GRID, HVSMR),
    )
    try:
        prediction = segmenter.segment(read_image(source / f"{case}_cropped_norm.nii.gz")).labels
    except DataError as error:
        print(f"  no prediction: {error}")
        return 0.0
    reference = read_label_map(source / f"{case}_cropped_seg.nii.gz", HVSMR).voxels
    rest = np.setdiff1d(np.arange(reference.shape[2]), labelled)
    dice = dice_per_label(prediction[:, :, rest], reference[:, :, rest], HVSMR.num_classes)
    return float(np.nanmean(dice))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--case", default="pat58")
    parser.add_argument("--counts", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--scratch-steps", type=int, default=900)
    options = parser.parse_args()
    source = Path(DATA) / "cropped_norm"
    untrained = score(options.weights, source, options.case, np.array([], int))
    print(
        f"{options.case}: {options.weights.name} without further training: macro average of Dice "
        f"{untrained:.3f}",
        flush=True,
    )
    for count in options.counts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "volumes"
            labelled = label_some(source, folder, options.case, count)
            found = {}
            for name, init, steps in (
                ("pretrained weights", str(options.weights), options.steps),
                ("random weights", None, options.scratch_steps),
            ):
                if steps == 0:
                    continue
                run_dir = Path(scratch) / name.replace(" ", "_")
                model_file = train(folder, run_dir, options.case, init=init, steps=steps)
                found[name] = score(model_file, source, options.case, labelled)
                print(f"  {counted(count, 'slice')}, from {name}: {found[name]:.3f}", flush=True)
            scores = ", ".join(f"from {name} {value:.3f}" for name, value in found.items())
            print(f"{counted(count, 'labelled slice')}: {scores}", flush=True)


if __name__ == "__main__":
    main()
