"""A scan of which a part is drawn: its full segmentation, and the network that adapted to it.

Three sources take part: the old answer of the network, the drawn shapes between the slices on which
they are drawn, and the network after it adapted to both. A part of what is drawn is held out first,
to see which of them to believe, and when adapting further does not help.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.inference.hints import redistribute
from heartseg.inference.views import average_views
from heartseg.inference.whole_heart import SeenHeart
from heartseg.progress import Report, silent
from heartseg.refinement.adaptation import Lesson, Progress, adapt, prepare
from heartseg.refinement.drawing import hold_out
from heartseg.refinement.laid_drawing import lay_drawn, lay_fractions, score_drawn
from heartseg.refinement.shapes import correct_answer, interpolate_shapes
from heartseg.scans.axes import to_trained_axes
from heartseg.scans.volume import UNLABELLED

REHEARSAL = 0.3
"""Part of the time in which the network adapts without the held-out part."""
CHECKS = 2
"""How often the held-out part is looked at meanwhile."""
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

Probabilities = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Refined:
    """The refined answer.

    Attributes:
        probabilities: ``(*FINE_GRID, K)`` over the box around the heart.
        stability: ``(K - 1,)`` stability of each structure between views, NaN where absent.
        steps: Steps in which the network adapted.
        held_out: Mean Dice on the held-out part, by the name of the answer.
        chosen: The name of the answer that was taken.
    """

    probabilities: Probabilities
    stability: NDArray[np.float64]
    steps: int
    held_out: Mapping[str, float]
    chosen: str


@dataclass
class Stage:
    """What an interrupted refinement goes on with.

    Attributes:
        rehearsal: Adapting without the held-out part.
        is_rehearsed: Whether that is done.
        scores: Held-out Dice by what was judged so far.
        best_seconds: Time of the rehearsal at the last look at the held-out part; 0 before it.
        is_stopped: Whether the rehearsal got worse, and so ended early.
        final: Adapting to all that is drawn.
    """

    rehearsal: Progress
    is_rehearsed: bool
    scores: dict[str, float]
    best_seconds: float
    is_stopped: bool
    final: Progress

    @property
    def num_steps(self) -> int:
        """Steps that are done."""
        return self.rehearsal.steps + self.final.steps

    @classmethod
    def new(cls) -> "Stage":
        """Begin."""
        return cls(Progress(), False, {}, 0.0, False, Progress())


class _Refinement:
    """One refinement: the heart, what is drawn in its box, and how answers are judged."""

    def __init__(
        self,
        network: keras.Model,
        heart: SeenHeart,
        drawn: NDArray[np.uint8],
        absent: Sequence[int],
    ) -> None:
        """Bring what is drawn onto the grid of the answers.

        Args:
            network: The network; it adapts.
            heart: What it saw before.
            drawn: ``(X, Y, Z)`` labels on the scan's grid, ``UNLABELLED`` where nothing is drawn.
            absent: Label values that never occur.
        """
        self.network, self.heart, self.absent = network, heart, absent
        self.scan, self.view = heart.scan, heart.view
        self.lit = to_trained_axes(drawn, heart.affine)[heart.lit]
        self.num_classes = heart.scan.num_classes
        self.old = redistribute(heart.probabilities, absent)
        self.held = hold_out(self.lit)

    def lay(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return lay_drawn(labels, self.view)

    def predict(self) -> tuple[Probabilities, NDArray[np.float64]]:
        # The scan is viewed by this network, whose weights have changed.
        probabilities, stability = average_views(self.scan, self.view)
        return redistribute(probabilities, self.absent), stability

    def correct(self, answer: Probabilities, drawn: NDArray[np.uint8]) -> Probabilities:
        return correct_answer(answer, drawn, absent=self.absent)

    def answer_without_network(self, drawn: NDArray[np.uint8]) -> dict[str, Probabilities]:
        """Return the answers that need no adapting, by name."""
        shapes = interpolate_shapes(_label(self.old), drawn, self.num_classes, absent=self.absent)
        return {BEFORE: self.old, INTERPOLATED: shapes, CORRECTED: self.correct(self.old, drawn)}

    def answer_adapted(
        self,
        answer: Probabilities,
        drawn: NDArray[np.uint8],
        others: Mapping[str, Probabilities],
    ) -> dict[str, Probabilities]:
        """Return the answers of the adapted network, by name; ``others`` need no adapting."""
        near = _measure_nearness(drawn)
        adapted = near * self.correct(answer, drawn) + (1 - near) * others[CORRECTED]
        mixed = (adapted + others[INTERPOLATED]) / 2
        return {ADAPTED: adapted.astype(np.float32), MIXED: mixed.astype(np.float32)}

    def make_lesson(self, labels: NDArray[np.uint8], soft: Probabilities) -> Lesson:
        agreed = _label(soft) == _label(self.old)
        far = 1 - _measure_nearness(self.lay(labels))
        weights = np.where(agreed, 1, DISPUTED)[..., np.newaxis] * (1 + (KEPT_FAR - 1) * far)
        return Lesson(
            lay_fractions(labels, self.view, self.num_classes),
            np.asarray(soft * weights, np.float32),
        )


def refine_heart(
    network: keras.Model,
    heart: SeenHeart,
    drawn: NDArray[np.uint8],
    *,
    absent: Sequence[int] = (),
    seconds: float = 180.0,
    stage: Stage | None = None,
    keep: Callable[[Stage], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    report: Report = silent,
) -> Refined:
    """Refine the answer of a network by what is drawn on a part of the scan.

    Args:
        network: The network that viewed the heart and views it again; it adapts, in place.
        heart: The heart, and the network's answer.
        drawn: ``(X, Y, Z)`` labels on the scan's grid, ``UNLABELLED`` where nothing is drawn.
        absent: Label values that never occur.
        seconds: Time in which the network adapts.
        stage: Where an interrupted refinement goes on; None: at the beginning.
        keep: Called now and then with what is needed to go on after an interruption.
        clock: What measures the time of adapting.
        report: Called with (seconds done, seconds, what is done).
    """
    work, stage = _Refinement(network, heart, drawn, absent), stage or Stage.new()
    initial = network.get_weights()
    prepare(network, work.num_classes, absent)
    if not stage.is_rehearsed:
        _rehearse(work, stage, seconds * REHEARSAL, keep, clock, report)
    fine = work.lay(work.lit)
    answers = work.answer_without_network(fine)
    chosen = _choose(stage.scores)
    if chosen in answers or stage.is_stopped:
        network.set_weights(initial)
    else:
        # What is learned already is not learned again; the held-out part is new.
        network.set_weights(stage.rehearsal.average)
    if chosen in answers:
        return Refined(answers[chosen], heart.stability, 0, stage.scores, chosen)

    def go_on(progress: Progress) -> bool:
        stage.final = progress
        keep(stage)
        return True

    done = adapt(
        network,
        work.scan,
        work.view,
        work.make_lesson(work.lit, answers[_choose_lesson(stage.scores)]),
        seconds=seconds * (1 - REHEARSAL) * (1 / CHECKS if stage.is_stopped else 1),
        progress=stage.final,
        after_step=go_on,
        clock=clock,
        report=_scaled(report, seconds * REHEARSAL, seconds),
        what="adapting to all that is drawn",
    )
    answer, stability = work.predict()
    answers |= work.answer_adapted(answer, fine, answers)
    return Refined(answers[chosen], stability, done.steps, stage.scores, chosen)


def _choose(scores: Mapping[str, float]) -> str:
    """Return whose answer to take: the adapted network's unless another is clearly better."""
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > scores.get(ADAPTED, 0.0) + MARGIN else ADAPTED


def _choose_lesson(scores: Mapping[str, float]) -> str:
    """Return which answer the network keeps near to where nothing is drawn."""
    return max((CORRECTED, INTERPOLATED), key=lambda name: scores[name])


def _rehearse(
    work: _Refinement,
    stage: Stage,
    seconds: float,
    keep: Callable[[Stage], None],
    clock: Callable[[], float],
    report: Report,
) -> None:
    """Adapt without the held-out part, and judge all answers on it."""
    shown = np.where(work.held, UNLABELLED, work.lit).astype(np.uint8)
    tests = np.where(work.held, work.lit, UNLABELLED).astype(np.uint8)
    fine_shown, fine_tests = work.lay(shown), work.lay(tests)
    # What crosses a kept slice is known, and no test.
    fine_tests[fine_shown != UNLABELLED] = UNLABELLED

    def judge(answers: Mapping[str, Probabilities]) -> dict[str, float]:
        return {
            name: score_drawn(_label(answer), fine_tests, work.num_classes)
            for name, answer in answers.items()
        }

    answers = work.answer_without_network(fine_shown)
    stage.scores |= judge(answers)
    lesson = work.make_lesson(shown, answers[_choose_lesson(stage.scores)])
    next_check = stage.best_seconds + seconds / CHECKS

    def check(progress: Progress) -> bool:
        nonlocal next_check
        stage.rehearsal = progress
        keep(stage)
        if progress.seconds < next_check:
            return True
        next_check += seconds / CHECKS
        work.network.set_weights(progress.average)
        seen, _ = work.predict()
        work.network.set_weights(progress.weights)
        scores = judge(work.answer_adapted(seen, fine_shown, answers))
        stage.is_stopped = scores[ADAPTED] < stage.scores.get(ADAPTED, 0.0) - MARGIN
        if not stage.is_stopped:
            stage.scores |= scores
            stage.best_seconds = progress.seconds
        return not stage.is_stopped

    adapt(
        work.network,
        work.scan,
        work.view,
        lesson,
        seconds=seconds,
        progress=stage.rehearsal,
        after_step=check,
        clock=clock,
        report=_scaled(report, 0, seconds / REHEARSAL),
        what="adapting, a part held out",
    )
    stage.is_rehearsed = True
    keep(stage)


def _measure_nearness(drawn: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return ``(P, I, R, 1)`` values: 1 where something is drawn, a third ``FAR`` away from it."""
    distances = ndimage.distance_transform_edt(drawn == UNLABELLED)
    return np.asarray(np.exp(-distances / FAR))[..., np.newaxis]


def _label(probabilities: Probabilities) -> NDArray[np.uint8]:
    return np.asarray(probabilities.argmax(axis=-1), np.uint8)


def _scaled(report: Report, start: float, total: float) -> Report:
    def shifted(done: int, _total: int, what: str) -> None:
        report(round(start) + done, round(total), what)

    return shifted
