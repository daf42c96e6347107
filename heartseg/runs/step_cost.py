"""What a step of a training costs, measured on a batch of noise."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from heartseg.config.schema import Config
from heartseg.runs.fitting import build_model
from heartseg.runs.kind import find_kind
from heartseg.training.devices import find_gpus, memory_errors
from heartseg.training.precision import choose_precision

REPEATS = 3
MEMORY_ADVICE = "a smaller train.batch_size or a smaller network needs less"


@dataclass(frozen=True)
class StepCost:
    """The cost of a step, on the device that will train.

    Attributes:
        train_s: Seconds of an optimizer step.
        predict_s: Seconds of a prediction of one batch.
        parameters: Weights of the network.
        memory_bytes: Memory of this process after the steps; that of a GPU is not counted.
        device: ``GPU`` or ``CPU``.
    """

    train_s: float
    predict_s: float
    parameters: int
    memory_bytes: int
    device: str


def measure_step(config: Config) -> StepCost:
    """Build the network of a configuration and time some steps; nothing is read or written.

    Raises:
        ModelError: If the network does not fit into memory, or the weights to start from are
            missing.
    """
    with memory_errors(MEMORY_ADVICE):
        network = build_model(config, choose_precision(config.train.precision))
        images, targets = find_kind(config.model.kind).build_batch(config)
        train_s = _time(lambda: network.train_on_batch(images, targets))
        predict_s = _time(lambda: network.predict_on_batch(images))
    return StepCost(
        train_s,
        predict_s,
        int(network.count_params()),
        int(psutil.Process().memory_info().rss),
        "GPU" if find_gpus() else "CPU",
    )


def _time(work: Callable[[], object]) -> float:
    """Return the seconds of a call, after a first one that compiles."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
