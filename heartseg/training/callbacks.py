"""Callbacks for what Keras's ``fit`` does not do: seeds per epoch, checks, records, resuming."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from heartseg.errors import ModelError
from heartseg.training.history import EpochRecord


@dataclass(frozen=True)
class TrainingProgress:
    """The state of training, reported after each step and each epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        epochs: Upper bound of epochs.
        step: Steps done in this epoch.
        steps: Steps of an epoch.
        logs: Loss and metrics so far in this epoch; after its end also those of the validation.
        learning_rate: Learning rate of this epoch.
        seconds: Seconds since the epoch began.
        is_epoch_end: Whether the epoch has ended, validation included.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    logs: Mapping[str, float]
    learning_rate: float
    seconds: float
    is_epoch_end: bool = False


Track = Callable[[TrainingProgress], None]


def ignore_progress(progress: TrainingProgress) -> None:
    """Ignore progress: the default of functions that report it."""


class SeedEpochs(keras.callbacks.Callback):
    """Make the dropout of an epoch depend only on the seed and the number of the epoch.

    Keras does not save the state of its random generators: without this callback, a resumed run
    would repeat the dropout of the first epochs.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, _logs: Mapping[str, float] | None = None) -> None:
        """Set the generator of every layer that has one."""
        for position, layer in enumerate(self.model.layers):
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                rng = np.random.default_rng((self._seed, epoch, position))
                generator.state.assign(rng.integers(0, 2**31, 2))


class AgreeOnLogs(keras.callbacks.Callback):
    """Give the callbacks after this one the same losses in every process.

    All processes compute the same sums, but not always to the last bit. Stopping and reducing the
    learning rate must not depend on that difference.
    """

    def __init__(self, agree: Callable[[Mapping[str, float]], Mapping[str, float]]) -> None:
        super().__init__()
        self._agree = agree

    def on_epoch_end(self, _epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replace the values in the dictionary that all callbacks share."""
        if logs is not None:
            values = {name: float(value) for name, value in logs.items()}
            logs.update(self._agree(values))


class ReplayHistory(keras.callbacks.Callback):
    """Restore the state of early stopping and of the learning-rate reducer from past epochs.

    Their counters and the learning rate follow from the recorded validation losses. So only the
    record is saved, and nothing can contradict it.
    """

    def __init__(
        self,
        history: Sequence[EpochRecord],
        callbacks: Sequence[keras.callbacks.Callback],
        learning_rate: float,
    ) -> None:
        super().__init__()
        self._history = history
        self._callbacks = callbacks
        self._learning_rate = learning_rate

    def on_train_begin(self, _logs: Mapping[str, float] | None = None) -> None:
        """Report each past epoch to the callbacks, which Keras has just reset."""
        self.model.optimizer.learning_rate = self._learning_rate
        for record in self._history:
            for callback in self._callbacks:
                callback.on_epoch_end(record.epoch - 1, dict(record.logs))


class WatchTraining(keras.callbacks.Callback):
    """Stop at a loss that is not finite, report progress, and pass each finished epoch on."""

    def __init__(
        self, *, epochs: int, steps: int, track: Track, finish: Callable[[EpochRecord], None]
    ) -> None:
        super().__init__()
        self._epochs = epochs
        self._steps = steps
        self._track = track
        self._finish = finish
        self._epoch = 0
        self._started = 0.0
        self._learning_rate = 0.0

    def on_epoch_begin(self, epoch: int, _logs: Mapping[str, float] | None = None) -> None:
        """Record when the epoch began, and its learning rate."""
        self._epoch = epoch
        self._started = time.monotonic()
        self._learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Check the loss and report progress."""
        self._check(logs or {}, "loss")
        self._report(batch + 1, logs or {})

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Check the losses and pass the finished epoch on."""
        values = {
            name: float(value) for name, value in (logs or {}).items() if name != "learning_rate"
        }
        for name in values.keys() & {"loss", "val_loss"}:
            self._check(values, name)
        seconds = round(time.monotonic() - self._started, 3)
        self._finish(EpochRecord(epoch + 1, values, self._learning_rate, seconds))
        self._report(self._steps, values, is_epoch_end=True)

    def _check(self, logs: Mapping[str, float], name: str) -> None:
        if math.isfinite(logs[name]):
            return
        raise ModelError(
            f"epoch {self._epoch + 1}: {name} is {logs[name]}, expected a finite number; training "
            "stopped. The weights of earlier epochs are kept. A smaller train.learning_rate or "
            "train.precision=float32 usually helps"
        )

    def _report(self, step: int, logs: Mapping[str, float], *, is_epoch_end: bool = False) -> None:
        self._track(
            TrainingProgress(
                epoch=self._epoch + 1,
                epochs=self._epochs,
                step=step,
                steps=self._steps,
                logs={name: float(value) for name, value in logs.items()},
                learning_rate=self._learning_rate,
                seconds=time.monotonic() - self._started,
                is_epoch_end=is_epoch_end,
            )
        )
