"""How much do a few drawn slices help, beside interpolating them and beside no help?

Some sagittal slices of a real scan are drawn, as the reference has them, and the answer of
``heartseg refine`` is scored on all others. Use weights that were trained without these patients:
others already contain the answer.

    python benchmarks/experiments/refinement.py WEIGHTS.keras --cases pat58 pat4 --counts 3 5 10

``--from-nothing`` also trains a network of the same shape with random weights for the same time on
the same slices. ``--seconds 0`` leaves out all training. With ``--stages DIR`` what was learned is
kept, and the next call only answers.

One processor thread computes, and its time is counted, not that of other programs on the machine.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
from numpy.typing import NDArray

from heartseg.evaluation.overlap import dice_per_label
from heartseg.inference.hints import HintedNetwork, absent_values, redistribute
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.suggestion import suggest_slices
from heartseg.inference.views import average_views
from heartseg.inference.whole_heart import SeenHeart, see_heart
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model
from heartseg.modelfile.description import ModelDescription
from heartseg.progress import silent
from heartseg.refinement.adaptation import Lesson, adapt, prepare
from heartseg.refinement.laid_drawing import lay_drawn, lay_fractions
from heartseg.refinement.refiner import Refined, Stage, refine_heart
from heartseg.refinement.saved_stage import load_stage, save_stage
from heartseg.refinement.shapes import interpolate_shapes
from heartseg.scans.axes import to_trained_axes
from heartseg.scans.volume import UNLABELLED, read_image, read_label_map

DATA = Path(os.environ.get("HEARTSEG_DATA", Path(__file__).parents[3] / "shared/data/hvsmr2"))
HINTS = {"pat58": ("RV", "RA")}
SAGITTAL = 2
K = HVSMR.num_classes


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a heart.

    Attributes:
        labels: ``(X, Y, Z)`` labels, ``UNLABELLED`` where nothing is drawn.
        lit: The same on the part of the scan that the network views.
        rest: Indices of the slices that are not drawn.
    """

    labels: NDArray[np.uint8]
    lit: NDArray[np.uint8]
    rest: NDArray[np.intp]


def draw(heart: SeenHeart, truth: NDArray[np.uint8], count: int, *, suggested: bool) -> Drawn:
    """Draw slices that are evenly spaced, or those that heartseg suggests."""
    if suggested:
        doubt = heart.measure_doubt(heart.probabilities)
        chosen = np.array([one.index for one in suggest_slices(doubt, heart.affine, count=count)])
    else:
        held = np.flatnonzero(truth.any(axis=(0, 1)))
        chosen = held[np.round(np.linspace(0, len(held) - 1, count + 2)[1:-1]).astype(int)]
    labels = np.full(truth.shape, UNLABELLED, np.uint8)
    labels[:, :, chosen] = truth[:, :, chosen]
    lit = to_trained_axes(labels, heart.affine)[heart.lit]
    return Drawn(labels, lit, np.setdiff1d(np.arange(truth.shape[SAGITTAL]), chosen))


def score(
    heart: SeenHeart, answer: NDArray[np.float32], truth: NDArray[np.uint8], rest: NDArray[np.intp]
) -> float:
    """Return the macro average of Dice on the slices that are not drawn."""
    labels = heart.label(answer, HVSMR)
    return float(np.nanmean(dice_per_label(labels[:, :, rest], truth[:, :, rest], K)))


def refine(
    network: keras.Model,
    heart: SeenHeart,
    drawn: Drawn,
    absent: list[int],
    seconds: float,
    stage_file: Path | None,
) -> Refined:
    """Refine, or only answer where what was learned is kept."""
    kept = [None if stage_file is None else load_stage(stage_file, str(seconds))]

    def keep(stage: Stage) -> None:
        kept[0] = stage

    refined = refine_heart(
        network,
        heart,
        drawn.labels,
        absent=absent,
        seconds=seconds,
        stage=kept[0],
        keep=keep,
        clock=time.process_time,
    )
    if stage_file is not None and kept[0] is not None:
        save_stage(stage_file, kept[0], str(seconds))
    return refined


def train_from_nothing(
    network: keras.Model, heart: SeenHeart, drawn: Drawn, absent: list[int], seconds: float
) -> NDArray[np.float32]:
    """Return the answer of a network with random weights that learned only what is drawn."""
    network.set_weights(keras.models.clone_model(network).get_weights())
    prepare(network, K, absent)
    fractions = lay_fractions(drawn.lit, heart.view, K)
    lesson = Lesson(fractions, np.zeros_like(fractions))
    adapt(
        network,
        heart.scan,
        heart.view,
        lesson,
        seconds=seconds,
        clock=time.process_time,
        report=silent,
        what="training",
    )
    return redistribute(average_views(heart.scan, heart.view)[0], absent)


def measure(case: str, count: int, options: argparse.Namespace) -> None:
    """Print the macro averages of Dice on the slices that are not drawn, and what it took."""
    network = load_model(options.weights)
    model = ModelDescription.for_whole_heart(tuple(network.input_shape[1:4]), HVSMR)
    image = read_image(DATA / "cropped_norm" / f"{case}_cropped_norm.nii.gz")
    truth = read_label_map(DATA / "cropped_norm" / f"{case}_cropped_seg.nii.gz", HVSMR).voxels
    absent = absent_values(HINTS.get(case, ()), HVSMR)
    began, begun = time.process_time(), time.monotonic()
    predict = compile_volume_predict(network)
    plain = see_heart(predict, image, model)
    heart = see_heart(HintedNetwork(predict, absent), image, model) if absent else plain
    drawn = draw(heart, truth, count, suggested=options.suggested)
    seen = heart.probabilities.argmax(axis=-1).astype(np.uint8)
    laid = lay_drawn(drawn.lit, heart.view)
    scores = {
        "no help": score(plain, plain.probabilities, truth, drawn.rest),
        "hint": score(heart, heart.probabilities, truth, drawn.rest),
        "interpolation": score(
            heart, interpolate_shapes(seen, laid, K, absent=absent), truth, drawn.rest
        ),
    }
    stage_file = options.stages and options.stages / f"{case}_{count}_{options.suggested}.npz"
    refined = refine(network, heart, drawn, absent, options.seconds, stage_file)
    scores["refined"] = score(heart, refined.probabilities, truth, drawn.rest)
    seconds, waited = time.process_time() - began, time.monotonic() - begun
    if options.from_nothing:
        answer = train_from_nothing(network, heart, drawn, absent, options.seconds)
        scores["from nothing"] = score(heart, answer, truth, drawn.rest)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    held_out = ", ".join(f"{name} {value:.3f}" for name, value in refined.held_out.items())
    print(
        f"{case}, {count} {'suggested' if options.suggested else 'even'} slices: {shown} "
        f"({refined.chosen}, {refined.steps} steps; held out: {held_out}; "
        f"{seconds:.0f} s of one thread, {waited:.0f} s waited)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--cases", nargs="+", default=["pat58", "pat4"])
    parser.add_argument("--counts", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--suggested", action="store_true", help="draw what heartseg suggests")
    parser.add_argument("--from-nothing", action="store_true", help="also train a new network")
    parser.add_argument("--stages", type=Path, help="folder that keeps what was learned")
    options = parser.parse_args()
    for case in options.cases:
        for count in options.counts:
            measure(case, count, options)


if __name__ == "__main__":
    main()
