"""What a step of a training costs, measured on batches like its own."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import joblib
import psutil

from heartseg.config.schema import Config
from heartseg.runs.fitting import build_model
from heartseg.runs.kind import find_kind
from heartseg.runs.material import NetworkBuilder
from heartseg.runs.second_stage import SecondStageNetwork
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
        draw_s: Seconds in which all cores draw the samples of a step.
        start_s: Seconds in which the network is built and computes its first batches.
    """

    train_s: float
    predict_s: float
    parameters: int
    memory_bytes: int
    device: str
    draw_s: float = 0.0
    start_s: float = 0.0

    @property
    def step_s(self) -> float:
        """Seconds from step to step: samples are drawn by the cores that train, or beside a GPU."""
        if self.device == "GPU":
            return max(self.train_s, self.draw_s)
        return self.train_s + self.draw_s


def measure_steps(config: Config) -> tuple[StepCost, ...]:
    """Build the networks of a configuration and time some steps; no data is read or written.

    Args:
        config: The configuration of a run.

    Returns:
        The cost of a step of the network; and of the second stage, if there is one.

    Raises:
        ModelError: If a network does not fit into memory, or the weights to start from are
            missing.
    """
    first = _measure(config, find_kind(config.model.kind))
    if not config.second_stage.enabled:
        return (first,)
    second = SecondStageNetwork(config)
    return first, _measure(second.config, second)


def _measure(config: Config, builder: NetworkBuilder) -> StepCost:
    with memory_errors(MEMORY_ADVICE):
        batch = builder.rehearse(config)
        started = time.perf_counter()
        network = build_model(config, choose_precision(config.train.precision), builder)

        def train() -> None:
            network.train_on_batch(batch.images, batch.targets)

        def predict() -> None:
            network.predict_on_batch(batch.images)

        # The first calls compile.
        train()
        predict()
        start_s = time.perf_counter() - started
        train_s, predict_s = _time(train), _time(predict)
    return StepCost(
        train_s,
        predict_s,
        int(network.count_params()),
        int(psutil.Process().memory_info().rss),
        "GPU" if find_gpus() else "CPU",
        batch.draw_s / joblib.cpu_count(),
        start_s,
    )


def _time(work: Callable[[], object]) -> float:
    """Return the median of the seconds of some calls."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
