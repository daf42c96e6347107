"""How far a study has come, read from its files: the same for folds here and on a cluster."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from heartseg.errors import DataError
from heartseg.files import read_json
from heartseg.progress import Report
from heartseg.runs.layout import RunLayout
from heartseg.study.plan import Study, is_evaluated, is_trained

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class StageProgress:
    """How far the training of a network has come.

    Attributes:
        epochs: Finished epochs.
        losses: The validation loss of each, or the training loss where there is none.
        seconds: Seconds of each.
    """

    epochs: int = 0
    losses: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class FoldProgress:
    """How far a fold has come.

    Attributes:
        stages: The training of its network, and of its second stage if there is one.
        trained: Whether training has ended.
        scored: Test patients with a prediction.
        evaluated: Whether all scores are written.
    """

    stages: tuple[StageProgress, ...]
    trained: bool
    scored: int
    evaluated: bool

    def epochs_left(self, most: Sequence[int]) -> list[int]:
        """Return the epochs of each stage that are left, at most.

        Args:
            most: The epochs of each stage, at most.
        """
        if self.trained:
            return [0] * len(most)
        # A stage that stopped early is behind once the next one has begun.
        current = max((n for n, stage in enumerate(self.stages) if stage.epochs), default=0)
        return [
            0 if number < current else limit - stage.epochs
            for number, (limit, stage) in enumerate(zip(most, self.stages, strict=True))
        ]


def look_at(study: Study, number: int) -> FoldProgress:
    """Read how far a fold has come."""
    layout = study.layout.fold(number)
    trained = is_trained(layout.run_dir)
    stages = (layout, layout.second_stage)[: len(study.epochs)]
    return FoldProgress(
        tuple(_read_stage(stage) for stage in stages),
        trained,
        len(list((layout.evaluation / "predictions").glob("*_seg.nii.gz"))),
        trained and is_evaluated(layout.run_dir),
    )


def _read_stage(layout: RunLayout) -> StageProgress:
    epochs = read_json(layout.history)["epochs"] if layout.history.is_file() else []
    return StageProgress(
        len(epochs),
        tuple(float(epoch.get("val_loss", epoch["loss"]) or 0) for epoch in epochs),
        tuple(float(epoch["seconds"]) for epoch in epochs),
    )


def describe(
    folds: Sequence[FoldProgress], tests: Sequence[int], *, epochs: Sequence[int], at_once: int
) -> tuple[int, int, str]:
    """Return units done, all units, and the state in words, with the time left of the training.

    A unit is an epoch of a fold or the scoring of a test patient; a training that stopped early
    counts with all its epochs.

    Args:
        folds: How far each fold has come.
        tests: Number of test patients of each fold.
        epochs: Epochs of each stage of a fold, at most.
        at_once: Folds that train at once.
    """
    left = [fold.epochs_left(epochs) for fold in folds]
    total = sum(epochs) * len(folds) + sum(tests)
    done = total - sum(map(sum, left))
    done -= sum(
        count - min(fold.scored, count)
        for fold, count in zip(folds, tests, strict=True)
        if not fold.evaluated
    )
    busy = [
        _describe_fold(number, fold, epochs)
        for number, fold in enumerate(folds)
        if not fold.evaluated and (fold.trained or fold.stages[0].epochs)
    ]
    texts = busy or (["the folds are done"] if done == total else ["the first epoch"])
    seconds, unknown = 0.0, ""
    for number in range(len(epochs)):
        count = sum(of_fold[number] for of_fold in left)
        known = [value for fold in folds for value in fold.stages[number].seconds]
        if known:
            seconds += count * sum(known) / len(known)
        elif count:
            unknown = " before the second stage"
    if seconds:
        texts.append(f"at most {format_duration(seconds / at_once)} of training left{unknown}")
    return done, total, "; ".join(texts)


def _describe_fold(number: int, fold: FoldProgress, epochs: Sequence[int]) -> str:
    if fold.trained:
        return f"fold {number}: scoring"
    current = max(n for n, stage in enumerate(fold.stages) if stage.epochs)
    stage = fold.stages[current]
    name = "second stage, " if current else ""
    return (
        f"fold {number}: {name}epoch {stage.epochs} of {epochs[current]}, "
        f"loss {stage.losses[-1]:.4g}"
    )


def format_duration(seconds: float) -> str:
    """Return a duration in words that suit its size: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


@contextmanager
def watched(study: Study, report: Report, *, at_once: int) -> Iterator[None]:
    """Report the progress of the folds while the block works on them."""
    stop = threading.Event()
    show = _reporter(study, report, at_once)
    thread = threading.Thread(target=_watch, args=(stop, show), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    show()


def _reporter(study: Study, report: Report, at_once: int) -> Callable[[], None]:
    last: tuple[int, int, str] | None = None
    tests = [len(study.test_cases(number)) for number in study.folds]

    def show() -> None:
        nonlocal last
        try:
            folds = [look_at(study, number) for number in study.folds]
        except (DataError, OSError):
            # A file was replaced while it was read: the next look finds it.
            return
        state = describe(folds, tests, epochs=study.epochs, at_once=at_once)
        if state != last:
            report(*state)
            last = state

    return show


def _watch(stop: threading.Event, show: Callable[[], None]) -> None:
    while not stop.wait(LOOK_EVERY_S):
        show()
