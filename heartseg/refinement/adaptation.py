"""A copy of a network adapts to one scan, in a given time, and can be interrupted.

The network sees the heart through windows that change from step to step. It learns what is drawn,
and keeps near to a soft answer where nothing is drawn, so that it does not forget what it knew.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from numpy.typing import NDArray

from heartseg.inference.hints import NONE_ABSENT, Absent
from heartseg.inference.views import FINE_GRID, View, ViewedScan
from heartseg.progress import Report
from heartseg.scans.resampling import resample, sampling_matrix
from heartseg.training.adaptation_loss import AdaptationLoss

RATE = 3e-4
KEEP = 0.5
WARM_UP = 20
"""Steps in which the rate rises to its full value."""
LAST_RATE = 0.05
"""Part of the rate that is left at the end."""
MEMORY = 0.97
"""Part of the averaged weights that one step keeps."""
ZOOM, SHIFT, GAMMA, LEVEL, NOISE = 0.06, 0.02, 0.15, 0.07, 0.03
"""How far the windows and the intensities of the steps spread."""

Weights = list[NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned, over the box around the heart.

    Attributes:
        drawn: ``(*FINE_GRID, K)`` fractions of the classes; they sum to 0 where nothing is drawn.
        soft: ``(*FINE_GRID, K)`` probabilities to keep near to, times the weight of each voxel.
    """

    drawn: NDArray[np.float32]
    soft: NDArray[np.float32]


@dataclass
class Progress:
    """How far an adaptation has come; all that is needed to go on with it.

    Attributes:
        steps: Steps that are done.
        seconds: Time that they took.
        weights: Weights after the last step.
        average: Their moving average, which is what is used.
    """

    steps: int = 0
    seconds: float = 0.0
    weights: Weights = field(default_factory=list)
    average: Weights = field(default_factory=list)


def prepare(network: keras.Model, num_classes: int, absent: Absent = NONE_ABSENT) -> None:
    """Give a network the loss and the optimizer with which it adapts.

    Args:
        network: From ``(1, *grid, 1)`` images to logits.
        num_classes: Classes, background included.
        absent: Label values that never occur, and which takes the place of each.
    """
    network.compile(
        optimizer=keras.optimizers.Adam(RATE, beta_2=0.99, clipnorm=1.0),
        loss=AdaptationLoss(num_classes, absent=absent, keep=KEEP),
        jit_compile=False,
    )


def adapt(
    network: keras.Model,
    scan: ViewedScan,
    box: View,
    lesson: Lesson,
    *,
    seconds: float,
    progress: Progress | None = None,
    after_step: Callable[[Progress], bool] = lambda _: True,
    clock: Callable[[], float] = time.monotonic,
    report: Report,
    what: str,
) -> Progress:
    """Adapt a network in place.

    Args:
        network: What ``prepare`` was given.
        scan: The scan.
        box: The box around the heart.
        lesson: What is learned.
        seconds: Time that all steps together may take; the first one, in which the network is
            compiled, does not count.
        progress: Where to go on; None: at the beginning.
        after_step: Called after each step; training ends where it returns False.
        clock: What measures the time of the steps.
        report: Called after each step with (seconds done, seconds, what).
        what: What the progress bar shows.

    Returns:
        The progress at the end; the network has the averaged weights then.
    """
    done = progress or Progress()
    if done.weights:
        network.set_weights(done.weights)
    warm_from = done.steps
    while done.seconds < seconds:
        begun = clock()
        part = min(1.0, done.seconds / seconds)
        fading = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + np.cos(np.pi * part))
        rising = min(1.0, (done.steps - warm_from + 1) / WARM_UP)
        network.optimizer.learning_rate = RATE * fading * rising
        network.train_on_batch(*_make_sample(scan, box, lesson, seed=done.steps))
        is_first = done.steps == warm_from
        done.steps += 1
        done.weights = network.get_weights()
        done.average = _average(done.average, done.weights, done.steps)
        done.seconds += 0 if is_first else clock() - begun
        report(round(min(done.seconds, seconds)), round(seconds), what)
        if not after_step(done):
            break
    if done.average:
        network.set_weights(done.average)
    return done


def _average(average: Weights, weights: Weights, steps: int) -> Weights:
    if not average:
        return weights
    kept = min(MEMORY, steps / (steps + 10))
    return [kept * old + (1 - kept) * new for old, new in zip(average, weights, strict=True)]


def _make_sample(
    scan: ViewedScan, box: View, lesson: Lesson, *, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw a window of the box; it follows from the seed alone."""
    rng = np.random.default_rng(seed)
    zoom, shift = np.exp(rng.normal(0, ZOOM, 3)), rng.normal(0, SHIFT, 3)
    view = View((zoom[0], zoom[1], zoom[2]), (shift[0], shift[1], shift[2]))
    image = scan.image(view.within(box))
    image = np.maximum(image, 0) ** np.exp(rng.normal(0, GAMMA)) * np.exp(rng.normal(0, LEVEL))
    image += rng.normal(0, NOISE * rng.random(), image.shape)
    matrices = [
        sampling_matrix(wanted, fine, zoom=z, shift=s)
        for wanted, fine, z, s in zip(scan.grid, FINE_GRID, view.zoom, view.shift, strict=True)
    ]
    targets = np.concatenate(
        [resample(lesson.drawn, matrices), resample(lesson.soft, matrices)], -1
    )
    return image.astype(np.float32)[np.newaxis, ..., np.newaxis], targets[np.newaxis]
