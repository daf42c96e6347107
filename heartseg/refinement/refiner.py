"""A scan of which a part is drawn: its full segmentation, and the network that adapted to it.

A part of what is drawn is held out first, to see which answer to believe, and when adapting further
does not help. Then the network adapts to all that is drawn.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from heartseg.inference.hints import NONE_ABSENT, Absent
from heartseg.inference.whole_heart import SeenHeart
from heartseg.progress import Report, silent
from heartseg.refinement.adaptation import Progress, adapt, prepare
from heartseg.refinement.answers import (
    ADAPTED,
    MARGIN,
    DrawnBox,
    Probabilities,
    SecondStage,
    choose,
    choose_lesson,
)
from heartseg.refinement.drawing import hold_out

REHEARSAL = 0.3
"""Part of the time in which the network adapts without the held-out part."""
CHECKS = 2
"""How often the held-out part is looked at meanwhile."""


@dataclass(frozen=True, eq=False)
class Refined:
    """The refined answer.

    Attributes:
        probabilities: ``(*FINE_GRID, K)`` over the box around the heart.
        stability: ``(K - 1,)`` stability of each structure between views, NaN where absent.
        steps: Steps in which the network adapted.
        held_out: Dice of all structures together on the held-out part, by the name of the answer.
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


def refine_heart(
    network: keras.Model,
    heart: SeenHeart,
    drawn: NDArray[np.uint8],
    *,
    absent: Absent = NONE_ABSENT,
    second: SecondStage | None = None,
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
        absent: Label values that never occur, and which takes the place of each.
        second: The second stage of the model, which corrects whatever the network answers; it
            stays as it is. None without.
        seconds: Time in which the network adapts.
        stage: Where an interrupted refinement goes on; None: at the beginning.
        keep: Called now and then with what is needed to go on after an interruption.
        clock: What measures the time of adapting.
        report: Called with (seconds done, seconds, what is done).
    """
    initial, box = network.get_weights(), DrawnBox.of_scan(heart, drawn, absent, second)
    prepare(network, heart.scan.num_classes, absent)
    work = _Refinement(network, box, stage or Stage.new(), seconds, keep, clock, report)
    scores = work.rehearse()
    answers, chosen = box.answer_without_network(), choose(scores)
    if chosen in answers:
        network.set_weights(initial)
        return Refined(answers[chosen], heart.stability, 0, scores, chosen)
    work.adapt_to_all(initial, answers[choose_lesson(scores)])
    adapted, stability = box.answer_adapted(answers)
    return Refined(adapted[chosen], stability, work.stage.final.steps, scores, chosen)


@dataclass(frozen=True, eq=False)
class _Refinement:
    """A refinement on its way: what adapts, to what, and how far it has come."""

    network: keras.Model
    box: DrawnBox
    stage: Stage
    seconds: float
    keep: Callable[[Stage], None]
    clock: Callable[[], float]
    report: Report

    def rehearse(self) -> dict[str, float]:
        """Adapt without the held-out part, and return how good all answers are on it."""
        stage, seconds = self.stage, self.seconds * REHEARSAL
        if stage.is_rehearsed:
            return stage.scores
        held = hold_out(self.box.labels)
        shown, tests = self.box.keep(~held), self.box.keep(held)
        answers = shown.answer_without_network()
        stage.scores |= tests.judge(answers, beside=shown)
        next_check = stage.best_seconds + seconds / CHECKS

        def check(progress: Progress) -> bool:
            nonlocal next_check
            stage.rehearsal = progress
            self.keep(stage)
            if progress.seconds < next_check:
                return True
            next_check += seconds / CHECKS
            self.network.set_weights(progress.average)
            scores = tests.judge(shown.answer_adapted(answers)[0], beside=shown)
            self.network.set_weights(progress.weights)
            stage.is_stopped = scores[ADAPTED] < stage.scores.get(ADAPTED, 0.0) - MARGIN
            if not stage.is_stopped:
                stage.scores |= scores
                stage.best_seconds = progress.seconds
            return not stage.is_stopped

        soft = answers[choose_lesson(stage.scores)]
        self._adapt(shown, soft, stage.rehearsal, check, 0, seconds, "adapting, a part held out")
        stage.is_rehearsed = True
        self.keep(stage)
        return stage.scores

    def adapt_to_all(self, initial: list[NDArray[np.float32]], soft: Probabilities) -> None:
        """Adapt to all that is drawn; ``initial`` are the weights before the rehearsal."""
        stage, seconds = self.stage, self.seconds * (1 - REHEARSAL)
        # What is learned already is not learned again; the held-out part is new.
        self.network.set_weights(initial if stage.is_stopped else stage.rehearsal.average)

        def go_on(progress: Progress) -> bool:
            stage.final = progress
            self.keep(stage)
            return True

        self._adapt(
            self.box,
            soft,
            stage.final,
            go_on,
            self.seconds - seconds,
            seconds / CHECKS if stage.is_stopped else seconds,
            "adapting to all that is drawn",
        )

    def _adapt(
        self,
        box: DrawnBox,
        soft: Probabilities,
        progress: Progress,
        after_step: Callable[[Progress], bool],
        start: float,
        seconds: float,
        what: str,
    ) -> None:
        def report(done: int, _total: int, what: str) -> None:
            self.report(round(start) + done, round(self.seconds), what)

        adapt(
            self.network,
            box.heart.scan,
            box.heart.view,
            box.make_lesson(soft),
            seconds=seconds,
            progress=progress,
            after_step=after_step,
            clock=self.clock,
            report=report,
            what=what,
        )
