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

from heartseg.inference.hints import redistribute
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.views import FINE_GRID, View, average_views
from heartseg.inference.whole_heart import SeenHeart
from heartseg.progress import Report, silent
from heartseg.refinement.adaptation import Lesson, Progress, adapt, prepare
from heartseg.refinement.drawing import hold_out
from heartseg.refinement.shapes import correct_shapes, distance_to_drawn
from heartseg.scans.axes import to_trained_axes
from heartseg.scans.resampling import resample, sampling_matrix
from heartseg.scans.volume import UNLABELLED

REHEARSAL = 0.3
"""Part of the time in which the network adapts without the held-out part."""
CHECKS = 2
"""How often the held-out part is looked at meanwhile."""
NEAR = 3.0
"""Voxels from a drawn one at which the drawn shapes count a third."""
BETWEEN = 0.5
"""How far the predicted form counts where the drawn shapes do."""
TRUSTS = (1.0, 0.0)
"""How far the predicted form may count between drawn slices: in full or not at all."""
MARGIN = 0.02
"""Few voxels are held out: adapting is given up only where it is worse by more than this."""
DISPUTED = 0.25
"""Weight of the soft answer where the drawn shapes and the old answer disagree: there the network
is to judge by what it sees."""

Probabilities = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Refined:
    """The refined answer.

    Attributes:
        probabilities: ``(*FINE_GRID, K)`` over the box around the heart.
        stability: ``(K - 1,)`` stability of each structure between views, NaN where absent.
        steps: Steps in which the network adapted.
        held_out: Mean Dice on the held-out part, by what was judged.
        chosen: Which of them made the answer.
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
        best_seconds: Time after which the rehearsal was best; 0 where adapting did not help.
        is_stopped: Whether the rehearsal got worse, and so ended early.
        final: Adapting to all that is drawn.
    """

    rehearsal: Progress
    is_rehearsed: bool
    scores: dict[str, float]
    best_seconds: float
    is_stopped: bool
    final: Progress

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
        scan = self.scan.seen_by(compile_volume_predict(self.network))
        probabilities, stability = average_views(scan, self.view)
        return redistribute(probabilities, self.absent), stability

    def correct(
        self, answer: Probabilities, drawn: NDArray[np.uint8], trust: float
    ) -> Probabilities:
        predicted = answer.argmax(axis=-1).astype(np.uint8)
        return correct_shapes(predicted, drawn, self.num_classes, trust=trust, absent=self.absent)

    def blend(self, answer: Probabilities, drawn: NDArray[np.uint8]) -> Probabilities:
        """Let the drawn shapes count near the slices on which they are drawn."""
        near = np.exp(-distance_to_drawn(drawn != UNLABELLED) / NEAR)[..., np.newaxis]
        blended = (1 - near) * answer + near * self.correct(answer, drawn, BETWEEN)
        return np.asarray(blended, np.float32)

    def make_lesson(self, labels: NDArray[np.uint8], soft: Probabilities) -> Lesson:
        matrices = [
            sampling_matrix(fine, side, zoom=zoom, shift=shift)
            for fine, side, zoom, shift in zip(
                FINE_GRID, labels.shape, self.view.zoom, self.view.shift, strict=True
            )
        ]
        # One class at a time: all classes at full resolution would be far larger than the scan.
        drawn = np.stack(
            [
                resample((labels == value).astype(np.float32), matrices)
                for value in range(self.num_classes)
            ],
            axis=-1,
        )
        agreed = soft.argmax(axis=-1) == self.old.argmax(axis=-1)
        return Lesson(drawn, soft * np.where(agreed, 1, DISPUTED)[..., np.newaxis])


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
        network: The network that saw the heart; it adapts, in place.
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
    left = _scaled(report, seconds * REHEARSAL, seconds)
    fine = work.lay(work.lit)
    trust = max(TRUSTS, key=lambda value: stage.scores[_shape_name(value)])
    corrected = work.correct(work.old, fine, trust)
    network.set_weights(initial)
    if not stage.best_seconds:
        # Adapting did not help: the drawn shapes correct the old answer.
        name = max(stage.scores, key=lambda key: stage.scores[key])
        answer = work.blend(work.old, fine) if name == "before" else corrected
        return Refined(answer, heart.stability, 0, stage.scores, name)

    def go_on(progress: Progress) -> bool:
        stage.final = progress
        keep(stage)
        return True

    done = adapt(
        network,
        work.scan,
        work.view,
        work.make_lesson(work.lit, corrected),
        seconds=seconds * (1 - REHEARSAL) * (1 / CHECKS if stage.is_stopped else 1),
        progress=stage.final,
        after_step=go_on,
        clock=clock,
        report=left,
        what="adapting to all that is drawn",
    )
    answer, stability = work.predict()
    return Refined(work.blend(answer, fine), stability, done.steps, stage.scores, "adapted")


def _rehearse(
    work: _Refinement,
    stage: Stage,
    seconds: float,
    keep: Callable[[Stage], None],
    clock: Callable[[], float],
    report: Report,
) -> None:
    """Adapt without the held-out part, and judge all sources on it."""
    shown = np.where(work.held, UNLABELLED, work.lit).astype(np.uint8)
    tests = np.where(work.held, work.lit, UNLABELLED).astype(np.uint8)
    # What crosses a kept slice is known, and no test.
    fine_shown, fine_tests = work.lay(shown), work.lay(tests)
    fine_tests[fine_shown != UNLABELLED] = UNLABELLED

    def judge(answer: Probabilities) -> float:
        return score_drawn(answer.argmax(axis=-1).astype(np.uint8), fine_tests, work.num_classes)

    stage.scores["before"] = judge(work.old)
    corrections = {trust: work.correct(work.old, fine_shown, trust) for trust in TRUSTS}
    stage.scores.update({_shape_name(t): judge(answer) for t, answer in corrections.items()})
    best_trust = max(TRUSTS, key=lambda trust: stage.scores[_shape_name(trust)])
    lesson = work.make_lesson(shown, corrections[best_trust])
    next_check = seconds / CHECKS

    def check(progress: Progress) -> bool:
        nonlocal next_check
        stage.rehearsal = progress
        keep(stage)
        if progress.seconds < next_check:
            return True
        next_check += seconds / CHECKS
        work.network.set_weights(progress.average)
        score = judge(work.blend(work.predict()[0], fine_shown))
        work.network.set_weights(progress.weights)
        worse = score < stage.scores.get("adapted", 0.0) - MARGIN
        stage.is_stopped = worse
        if not worse:
            stage.scores["adapted"], stage.best_seconds = score, progress.seconds
        return not worse

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
    others = [score for name, score in stage.scores.items() if name != "adapted"]
    if stage.scores.get("adapted", 0.0) < max(others) - MARGIN:
        stage.best_seconds = 0.0
    stage.is_rehearsed = True
    keep(stage)


def _shape_name(trust: float) -> str:
    return {1.0: "corrected", 0.0: "interpolated"}[trust]


def _scaled(report: Report, start: float, total: float) -> Report:
    def shifted(done: int, _total: int, what: str) -> None:
        report(round(start) + done, round(total), what)

    return shifted


def lay_drawn(labels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Bring drawn labels onto the grid of the answers.

    Args:
        labels: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
        view: The box that the grid covers, as a view of ``labels``.

    Returns:
        ``FINE_GRID`` labels: of the drawn voxels within a voxel of the grid the one nearest to its
        centre; so a drawn slice is never lost between two planes.
    """
    for axis, (count, zoom, shift) in enumerate(zip(FINE_GRID, view.zoom, view.shift, strict=True)):
        side = labels.shape[axis]
        place = (0.5 + ((np.arange(count) + 0.5) / count - 0.5) * zoom + shift) * side - 0.5
        reach = max(0.5, zoom * side / count / 2)
        laid = np.full(
            (*labels.shape[:axis], count, *labels.shape[axis + 1 :]), UNLABELLED, np.uint8
        )
        # The nearest voxels first; what they leave open the next ones fill.
        offsets = sorted(range(-int(reach) - 1, int(reach) + 2), key=abs)
        for offset in offsets:
            index = np.rint(place).astype(int) + offset
            near = (np.abs(index - place) <= reach) & (index >= 0) & (index < side)
            taken = np.take(labels, np.clip(index, 0, side - 1), axis=axis)
            open_ = (laid == UNLABELLED) & np.expand_dims(
                near, tuple(a for a in range(3) if a != axis)
            )
            laid[open_] = taken[open_]
        labels = laid
    return labels


def score_drawn(predicted: NDArray[np.uint8], drawn: NDArray[np.uint8], num_classes: int) -> float:
    """Return the mean Dice over the structures that occur, where something is drawn; 1 for none."""
    known = drawn != UNLABELLED
    pairs = drawn[known].astype(np.int64) * num_classes + predicted[known]
    confusion = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    total = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:]
    dice = 2 * np.diagonal(confusion)[1:][total > 0] / total[total > 0]
    return float(dice.mean()) if dice.size else 1.0
