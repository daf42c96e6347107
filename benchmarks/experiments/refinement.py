"""How much do a few drawn slices help, beside interpolating them and beside no help?

Some sagittal slices of a real scan are drawn, as the reference has them, and the answer of
``heartseg refine`` is scored on all others. Use weights that were trained without these patients:
others already contain the answer.

    python benchmarks/experiments/refinement.py WEIGHTS.keras --cases pat58 pat4 --counts 3 5 10

``--from-nothing`` also trains a network of the same shape with random weights for the same time on
the same slices. ``--seconds 0`` leaves out all training. With ``--stages DIR`` what was learned is
kept, and the next call only answers. Of weights with two stages ``--first-stage`` takes the first.

One processor thread computes, and its time is counted, not that of other programs on the machine.
"""

import argparse
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
from numpy.typing import NDArray

from heartseg.evaluation.overlap import dice_per_label
from heartseg.inference.hints import Absent, HintedNetwork, absent_values, redistribute
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.suggestion import suggest_slices
from heartseg.inference.views import FINE_GRID, average_views
from heartseg.inference.whole_heart import SeenHeart, see_heart
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.modelfile.description import ModelDescription
from heartseg.progress import silent
from heartseg.refinement.adaptation import Lesson, adapt, prepare
from heartseg.refinement.answers import SecondStage
from heartseg.refinement.laid_drawing import lay_drawn, lay_fractions
from heartseg.refinement.refiner import Refined, Stage, refine_heart
from heartseg.refinement.saved_stage import load_stage, save_stage
from heartseg.refinement.shapes import correct_answer, interpolate_shapes
from heartseg.scans.axes import to_trained_axes
from heartseg.scans.resampling import resample_to
from heartseg.scans.volume import UNLABELLED, read_image, read_label_map

DATA = Path(os.environ.get("HEARTSEG_DATA", Path(__file__).parents[3] / "shared/data/hvsmr2"))
HINTS = {"pat58": ("RV", "RA")}
SAGITTAL = 2
K = HVSMR.num_classes


@dataclass(frozen=True, eq=False)
class DrawnHeart:
    """A heart of which some slices are drawn as the reference has them.

    Attributes:
        heart: What the network sees, with the hint.
        answer: What ``heartseg infer`` makes of it, with both stages if there are two.
        truth: ``(X, Y, Z)`` labels of the reference.
        drawn: ``(X, Y, Z)`` labels, ``UNLABELLED`` where nothing is drawn.
        absent: Label values that the hint declares absent, and which takes the place of each.
    """

    heart: SeenHeart
    answer: NDArray[np.float32]
    truth: NDArray[np.uint8]
    drawn: NDArray[np.uint8]
    absent: Absent

    @property
    def lit(self) -> NDArray[np.uint8]:
        """What is drawn on the part of the scan that the network views."""
        return to_trained_axes(self.drawn, self.heart.affine)[self.heart.lit]

    def score(self, answer: NDArray[np.float32], heart: SeenHeart | None = None) -> float:
        """Return the macro average of Dice on the slices that are not drawn."""
        labels = (heart or self.heart).label(answer, HVSMR)
        rest = (self.drawn == UNLABELLED).all(axis=(0, 1))
        return float(np.nanmean(dice_per_label(labels[:, :, rest], self.truth[:, :, rest], K)))

    def score_shapes(self) -> dict[str, float]:
        """Score what needs no training: interpolated shapes, and shapes that correct the answer."""
        answer = resample_to(self.answer, FINE_GRID)
        laid = lay_drawn(self.lit, self.heart.view)
        seen = answer.argmax(axis=-1).astype(np.uint8)
        return {
            "interpolation": self.score(interpolate_shapes(seen, laid, K, absent=self.absent)),
            "corrected": self.score(correct_answer(answer, laid, absent=self.absent)),
        }

    def refine(
        self,
        network: keras.Model,
        second: SecondStage | None,
        seconds: float,
        stage_file: Path | None,
    ) -> Refined:
        """Refine, or only answer where what was learned is kept."""
        kept = [None if stage_file is None else load_stage(stage_file, str(seconds))]

        def keep(stage: Stage) -> None:
            kept[0] = stage

        refined = refine_heart(
            network,
            self.heart,
            self.drawn,
            absent=self.absent,
            second=second,
            seconds=seconds,
            stage=kept[0],
            keep=keep,
            clock=time.process_time,
        )
        if stage_file is not None and kept[0] is not None:
            save_stage(stage_file, kept[0], str(seconds))
        return refined

    def train_from_nothing(
        self, network: keras.Model, weights: list[NDArray[np.float32]], seconds: float
    ) -> NDArray[np.float32]:
        """Return the answer of random weights that learned only what is drawn."""
        heart = self.heart
        network.set_weights(weights)
        prepare(network, K, self.absent)
        fractions = lay_fractions(self.lit, heart.view, K)
        adapt(
            network,
            heart.scan,
            heart.view,
            Lesson(fractions, np.zeros_like(fractions)),
            seconds=seconds,
            clock=time.process_time,
            report=silent,
            what="training",
        )
        return redistribute(average_views(heart.scan, heart.view)[0], self.absent)


def draw(
    heart: SeenHeart, truth: NDArray[np.uint8], count: int, *, suggested: bool
) -> NDArray[np.uint8]:
    """Draw slices that are evenly spaced, or those that heartseg suggests."""
    if suggested:
        doubt = heart.measure_doubt(heart.probabilities)
        chosen = np.array([one.index for one in suggest_slices(doubt, heart.affine, count=count)])
    else:
        held = np.flatnonzero(truth.any(axis=(0, 1)))
        chosen = held[np.round(np.linspace(0, len(held) - 1, count + 2)[1:-1]).astype(int)]
    drawn = np.full(truth.shape, UNLABELLED, np.uint8)
    drawn[:, :, chosen] = truth[:, :, chosen]
    return drawn


def load_second_stage(weights: Path, model: ModelDescription) -> SecondStage | None:
    """Load the second stage of a model; None if it has none."""
    stage = model.second_stage
    if stage is None:
        return None
    correct = compile_volume_predict(load_model(weights, second_stage=True))
    return lambda heart, probabilities: heart.correct(correct, stage, probabilities)


def measure(case: str, count: int, options: argparse.Namespace) -> None:
    """Print the macro averages of Dice on the slices that are not drawn, and what it took."""
    network = load_model(options.weights)
    metadata = read_metadata(options.weights)
    model = ModelDescription.from_metadata(metadata, source=str(options.weights))
    if options.first_stage:
        model = model.without_second_stage()
    second = load_second_stage(options.weights, model)
    image = read_image(DATA / "cropped_norm" / f"{case}_cropped_norm.nii.gz")
    truth = read_label_map(DATA / "cropped_norm" / f"{case}_cropped_seg.nii.gz", HVSMR).voxels
    absent = absent_values(HINTS.get(case, ()), HVSMR)
    # Before the network has a loss, which cannot be cloned.
    random_weights = keras.models.clone_model(network).get_weights()
    predict = compile_volume_predict(network)
    plain = see_heart(predict, image, model)
    heart = see_heart(HintedNetwork(predict, absent), image, model) if absent else plain
    answer, plain_answer = (
        seen.probabilities if second is None else second(seen, seen.probabilities)
        for seen in (heart, plain)
    )
    drawn = draw(heart, truth, count, suggested=options.suggested)
    work = DrawnHeart(heart, redistribute(answer, absent), truth, drawn, absent)
    scores = {
        "no help": work.score(plain_answer, plain),
        "hint": work.score(work.answer),
        **work.score_shapes(),
    }
    took = "no training"
    if options.seconds:
        began, begun = time.process_time(), time.monotonic()
        name = f"{case}_{count}_{'suggested' if options.suggested else 'even'}.npz"
        stage_file = options.stages and options.stages / name
        refined = work.refine(network, second, options.seconds, stage_file)
        took = (
            f"{refined.chosen}, {refined.steps} steps; {time.process_time() - began:.0f} s of one "
            f"thread, {time.monotonic() - begun:.0f} s waited; held out: {_list(refined.held_out)}"
        )
        scores["refined"] = work.score(refined.probabilities)
    if options.from_nothing:
        answer = work.train_from_nothing(network, random_weights, options.seconds)
        scores["from nothing"] = work.score(answer)
    kind = "suggested" if options.suggested else "even"
    print(f"{case}, {count} {kind} slices: {_list(scores)} ({took})", flush=True)


def _list(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--cases", nargs="+", default=["pat58", "pat4"])
    parser.add_argument("--counts", type=int, nargs="+", default=[3, 5, 10])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--suggested", action="store_true", help="draw what heartseg suggests")
    parser.add_argument("--first-stage", action="store_true", help="leave out the second stage")
    parser.add_argument("--from-nothing", action="store_true", help="also train a new network")
    parser.add_argument("--stages", type=Path, help="folder that keeps what was learned")
    options = parser.parse_args()
    for case in options.cases:
        for count in options.counts:
            measure(case, count, options)


if __name__ == "__main__":
    main()
