"""How much do a few drawn slices help, beside interpolating them and beside no help?

Some evenly spaced sagittal slices of a real scan are drawn, as the reference has them, and the
answer of ``heartseg refine`` is scored on all others. Use weights that were trained without these
patients: others already contain the answer.

    python benchmarks/experiments/refinement.py WEIGHTS.keras --cases pat58 pat4 --counts 3 5 10

One processor thread adapts; its time is counted, not that of other programs on the machine.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from heartseg.evaluation.overlap import dice_per_label
from heartseg.inference.hints import HintedNetwork, absent_values, redistribute
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.suggestion import suggest_slices
from heartseg.inference.whole_heart import SeenHeart, see_heart
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model
from heartseg.modelfile.description import ModelDescription
from heartseg.refinement.refiner import Refined, lay_drawn, refine_heart
from heartseg.refinement.shapes import correct_shapes
from heartseg.scans.axes import to_trained_axes
from heartseg.scans.volume import UNLABELLED, read_image, read_label_map

DATA = Path(os.environ.get("HEARTSEG_DATA", Path(__file__).parents[3] / "shared/data/hvsmr2"))
HINTS = {"pat58": ("RV", "RA")}
SAGITTAL = 2


def choose(
    heart: SeenHeart, labels: NDArray[np.uint8], count: int, *, suggested: bool
) -> NDArray[np.intp]:
    """Return the slices that are drawn: evenly spaced, or those that heartseg suggests."""
    if suggested:
        doubt = heart.measure_doubt(heart.probabilities)
        return np.array([one.index for one in suggest_slices(doubt, heart.affine, count=count)])
    held = np.flatnonzero(labels.any(axis=(0, 1)))
    return held[np.round(np.linspace(0, len(held) - 1, count + 2)[1:-1]).astype(int)]


def measure(
    weights: Path, case: str, count: int, seconds: float, *, suggested: bool
) -> tuple[dict[str, float], Refined, float]:
    """Return the macro averages of Dice on the slices that are not drawn, and what it took."""
    network = load_model(weights)
    model = ModelDescription.for_whole_heart(tuple(network.input_shape[1:4]), HVSMR)
    image = read_image(DATA / "cropped_norm" / f"{case}_cropped_norm.nii.gz")
    labels = read_label_map(DATA / "cropped_norm" / f"{case}_cropped_seg.nii.gz", HVSMR).voxels
    absent = absent_values(HINTS.get(case, ()), HVSMR)
    began = time.process_time()
    plain = see_heart(compile_volume_predict(network), image, model)
    heart = plain
    if absent:
        heart = see_heart(HintedNetwork(compile_volume_predict(network), absent), image, model)
    drawn = np.full(labels.shape, UNLABELLED, np.uint8)
    chosen = choose(heart, labels, count, suggested=suggested)
    drawn[:, :, chosen] = labels[:, :, chosen]
    laid = lay_drawn(to_trained_axes(drawn, heart.affine)[heart.lit], heart.view)
    seen = redistribute(heart.probabilities, absent).argmax(axis=-1).astype(np.uint8)
    shapes = {
        name: correct_shapes(seen, laid, HVSMR.num_classes, trust=trust, absent=absent)
        for name, trust in (("interpolation", 0.0), ("corrected", 1.0))
    }
    refined = refine_heart(
        network, heart, drawn, absent=absent, seconds=seconds, clock=time.process_time
    )
    answers = {
        "no help": plain.label(plain.probabilities, HVSMR),
        "hint": heart.label(heart.probabilities, HVSMR),
        **{name: heart.label(answer, HVSMR) for name, answer in shapes.items()},
        "refined": heart.label(refined.probabilities, HVSMR),
    }
    rest = np.setdiff1d(np.arange(labels.shape[SAGITTAL]), chosen)
    scores = {
        name: float(
            np.nanmean(dice_per_label(answer[:, :, rest], labels[:, :, rest], HVSMR.num_classes))
        )
        for name, answer in answers.items()
    }
    return scores, refined, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--cases", nargs="+", default=["pat58", "pat4"])
    parser.add_argument("--counts", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--suggested", action="store_true", help="draw what heartseg suggests")
    options = parser.parse_args()
    for case in options.cases:
        for count in options.counts:
            scores, refined, seconds = measure(
                options.weights, case, count, options.seconds, suggested=options.suggested
            )
            shown = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
            print(
                f"{case}, {count} slices: {shown} ({refined.chosen}, {refined.steps} steps, "
                f"{seconds:.0f} s of one thread)",
                flush=True,
            )


if __name__ == "__main__":
    main()
