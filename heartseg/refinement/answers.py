"""The answers that a heart of which a part is drawn can get, and which of them to take.

Three sources take part: the old answer of the network, the drawn shapes between the slices on which
they are drawn, and the network after it adapted to both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.inference.hints import Absent, redistribute
from heartseg.inference.views import average_views
from heartseg.inference.whole_heart import SeenHeart
from heartseg.refinement.adaptation import Lesson
from heartseg.refinement.laid_drawing import lay_drawn, lay_fractions, score_drawn
from heartseg.refinement.shapes import correct_answer, interpolate_shapes
from heartseg.scans.axes import to_trained_axes
from heartseg.scans.resampling import resample_to
from heartseg.scans.volume import UNLABELLED

MARGIN = 0.05
"""Few voxels are held out, often one slice: a difference of their Dice below this says nothing."""
FAR = 12.0
"""Voxels from a drawn one at which the adapted network counts a third beside the old answer: beyond
the drawn slices it has learned nothing, and may have forgotten."""
KEPT_FAR = 4.0
"""How much more the soft answer counts far from what is drawn than beside it."""
DISPUTED = 0.25
"""Weight of the soft answer where the drawn shapes and the old answer disagree: there the network
is to judge by what it sees."""
BEFORE, INTERPOLATED, CORRECTED = "before", "interpolated", "corrected"
"""The answers without adapting: of the network, of the drawn shapes, and of both."""
ADAPTED, MIXED = "adapted", "mixed"
"""The answers of the adapted network: corrected too, and the mean of this and of the shapes."""

Probabilities: TypeAlias = NDArray[np.float32]
"""``(*FINE_GRID, K)`` over the box around the heart."""
Answers: TypeAlias = dict[str, Probabilities]
"""By name."""
SecondStage: TypeAlias = Callable[[SeenHeart, Probabilities], NDArray[np.float32]]
"""A heart and the first stage's answer to ``(P, I, R, K)`` probabilities on a grid of any size."""


@dataclass(frozen=True, eq=False)
class DrawnBox:
    """The box around a heart, and some drawn labels in it.

    Attributes:
        heart: The heart, which the network may view again when it has adapted.
        labels: Labels on the part of the scan that the network views, ``UNLABELLED`` where nothing
            is drawn.
        laid: The same labels on the grid of the answers.
        absent: Label values that never occur, and which takes the place of each.
        before: What each stage of the model answered before it adapted.
        second: The second stage of the model; None without.
    """

    heart: SeenHeart
    labels: NDArray[np.uint8]
    laid: NDArray[np.uint8]
    absent: Absent
    before: Sequence[Probabilities]
    second: SecondStage | None

    @classmethod
    def of_scan(
        cls,
        heart: SeenHeart,
        drawn: NDArray[np.uint8],
        absent: Absent,
        second: SecondStage | None,
    ) -> "DrawnBox":
        """Bring what is drawn into the box.

        Args:
            heart: The heart, and the network's answer.
            drawn: ``(X, Y, Z)`` labels on the scan's grid, ``UNLABELLED`` where nothing is drawn.
            absent: Label values that never occur, and which takes the place of each.
            second: The second stage of the model; None without.
        """
        labels = to_trained_axes(drawn, heart.affine)[heart.lit]
        before = _ask_stages(heart, heart.probabilities, absent, second)
        return cls(heart, labels, lay_drawn(labels, heart.view), absent, before, second)

    def keep(self, wanted: NDArray[np.bool_]) -> "DrawnBox":
        """Return the box with a part of the drawn labels."""
        labels = np.where(wanted, self.labels, UNLABELLED).astype(np.uint8)
        return replace(self, labels=labels, laid=lay_drawn(labels, self.heart.view))

    def answer_without_network(self) -> Answers:
        """Return the answers that need no adapting."""
        before = self.before[-1]
        shapes = interpolate_shapes(_label(before), self.laid, before.shape[-1], absent=self.absent)
        return {BEFORE: before, INTERPOLATED: shapes, CORRECTED: self._correct(self.before)}

    def answer_adapted(self, others: Answers) -> tuple[Answers, NDArray[np.float64]]:
        """View the heart with the adapted network; return its answers and their stability.

        Args:
            others: The answers that need no adapting.
        """
        # The scan is viewed by the network that adapted: its weights have changed.
        seen, stability = average_views(self.heart.scan, self.heart.view)
        near = self._measure_nearness()
        corrected = self._correct(_ask_stages(self.heart, seen, self.absent, self.second))
        adapted = near * corrected + (1 - near) * others[CORRECTED]
        mixed = (adapted + others[INTERPOLATED]) / 2
        return {ADAPTED: adapted, MIXED: mixed}, stability

    def make_lesson(self, soft: Probabilities) -> Lesson:
        """Return what a network learns that adapts.

        Args:
            soft: The answer that it keeps near to where nothing is drawn.
        """
        agreed = np.where(_label(soft) == _label(self.before[-1]), 1, DISPUTED)[..., np.newaxis]
        weights = agreed * (1 + (KEPT_FAR - 1) * (1 - self._measure_nearness()))
        fractions = lay_fractions(self.labels, self.heart.view, soft.shape[-1])
        return Lesson(fractions, np.asarray(soft * weights, np.float32))

    def judge(self, answers: Answers, *, beside: "DrawnBox") -> dict[str, float]:
        """Return the Dice of answers, all structures together, on what is drawn here.

        Args:
            answers: The answers.
            beside: What they were made from: voxels that are drawn there too are no test.
        """
        tests = np.where(beside.laid == UNLABELLED, self.laid, UNLABELLED).astype(np.uint8)
        return {name: score_drawn(_label(answer), tests) for name, answer in answers.items()}

    def _correct(self, stages: Sequence[Probabilities]) -> Probabilities:
        """Correct the answer of each stage by what is drawn; return their mean.

        A second stage follows borders better, and undoes some of what the first one has learned.
        """
        corrected = [correct_answer(seen, self.laid, absent=self.absent) for seen in stages]
        return np.asarray(sum(corrected) / len(corrected), np.float32)

    def _measure_nearness(self) -> NDArray[np.float32]:
        """Return ``(P, I, R, 1)``: 1 where something is drawn, a third ``FAR`` away from it."""
        distances = ndimage.distance_transform_edt(self.laid == UNLABELLED)
        return np.asarray(np.exp(-distances / FAR), np.float32)[..., np.newaxis]


def choose(scores: Mapping[str, float]) -> str:
    """Return whose answer to take: the adapted network's unless another is clearly better.

    Args:
        scores: Dice on the held-out part, by the name of the answer.
    """
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > scores.get(ADAPTED, 0.0) + MARGIN else ADAPTED


def choose_lesson(scores: Mapping[str, float]) -> str:
    """Return which answer the network keeps near to where nothing is drawn.

    Args:
        scores: As in ``choose``.
    """
    return max((CORRECTED, INTERPOLATED), key=lambda name: scores[name])


def _ask_stages(
    heart: SeenHeart,
    seen: Probabilities,
    absent: Absent,
    second: SecondStage | None,
) -> list[Probabilities]:
    """Return what the first stage has seen, and what the second one makes of it."""
    answers = [seen]
    if second is not None:
        p, i, r, _ = seen.shape
        answers.append(resample_to(second(heart, seen), (p, i, r)))
    return [redistribute(answer, absent) for answer in answers]


def _label(probabilities: Probabilities) -> NDArray[np.uint8]:
    return np.asarray(probabilities.argmax(axis=-1), np.uint8)
