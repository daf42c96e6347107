"""Fitting a model: stopping, reducing the rate, keeping the best, resuming after any kill."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import keras

from heartseg.errors import ModelError
from heartseg.files import remove_unfinished
from heartseg.modelfile.checkpoint import load_model, read_metadata, save_model
from heartseg.training.averaging import averaged_weights, cosine_rate, keeps_average
from heartseg.training.callbacks import (
    AgreeOnLogs,
    ReplayHistory,
    SeedEpochs,
    Track,
    WatchTraining,
    ignore_progress,
)
from heartseg.training.history import (
    EpochRecord,
    History,
    HistoryFiles,
    best_of,
    write_history,
)
from heartseg.training.losses import register_losses
from heartseg.training.placement import Placement
from heartseg.training.precision import dtype_policy
from heartseg.training.shortcuts import build_optimizer, take_shortcuts

if TYPE_CHECKING:
    import tensorflow as tf

Batches: TypeAlias = "tf.data.Dataset[Any]"

ALONE = Placement()

AfterEpoch = Callable[[int, keras.Model], None]
"""Called with the number of an epoch, from 1, and the model, when its state has been saved."""


@dataclass(frozen=True)
class FitSettings:
    """How a model is fitted.

    Attributes:
        epochs: Upper bound of epochs.
        steps_per_epoch: Optimizer steps of an epoch.
        learning_rate: Step size of the optimizer at the beginning.
        patience: Epochs without a better validation loss before training stops.
        reduce_learning_rate: Whether the rate is reduced when the validation loss stalls.
        reducer_factor: Factor by which it is reduced.
        reducer_patience: Epochs without a better validation loss before that.
        min_learning_rate: The rate is never reduced below this.
        seed: Seed of dropout.
        tensorboard: Whether TensorBoard files are written.
        schedule: ``plateau``: the reducer changes the rate. ``cosine``: see ``cosine_rate``.
    """

    epochs: int
    steps_per_epoch: int
    learning_rate: float
    patience: int = 10
    reduce_learning_rate: bool = True
    reducer_factor: float = 0.5
    reducer_patience: int = 4
    min_learning_rate: float = 0.0
    seed: int = 137
    tensorboard: bool = True
    schedule: str = "plateau"


@dataclass(frozen=True)
class TrainingFiles:
    """Where a training keeps what it makes.

    Attributes:
        best: The model of the best epoch, named ``*.keras``.
        state: All that a resumed training needs, named ``*.keras``, in a folder of its own.
        record: The record of all epochs.
        tensorboard: Folder of the TensorBoard files.
    """

    best: Path
    state: Path
    record: HistoryFiles
    tensorboard: Path


@dataclass(frozen=True)
class TrainingResult:
    """What came of training.

    Attributes:
        best_file: The model of the epoch with the lowest loss, of the validation if there is one.
        best_epoch: That epoch, from 1.
        best_loss: That loss.
        history: Every epoch, those before a resumption included.
        second_stage: What came of training the second stage; None if there is none.
    """

    best_file: Path
    best_epoch: int
    best_loss: float
    history: History
    second_stage: "TrainingResult | None" = None


@dataclass(frozen=True)
class SavedState:
    """What an earlier run left to resume from.

    Attributes:
        history: Its finished epochs.
        metadata: What the model file says beside the weights.
    """

    history: History
    metadata: Mapping[str, Any]


def compile_model(
    model: keras.Model,
    *,
    learning_rate: float,
    clipvalue: float,
    clipnorm: float = 0.0,
    weight_decay: float = 0.0,
    average_momentum: float = 0.0,
    loss: keras.losses.Loss,
    metrics: list[keras.metrics.Metric],
    shortcuts: bool = True,
) -> None:
    """Give a model its optimizer (Adam, or AdamW with decay), loss and metrics.

    Args:
        model: The network.
        learning_rate: Step size.
        clipvalue: Gradients are clipped to this absolute value; 0 switches clipping off.
        clipnorm: The gradient of each weight array is clipped to this norm; 0 switches it off.
        weight_decay: Decoupled decay of the weights.
        average_momentum: Momentum of an average of the weights; 0 keeps none.
        loss: What is minimised.
        metrics: What else is recorded.
        shortcuts: Whether steps may be computed with less work; see ``training.shortcuts``.
    """
    optimizer = build_optimizer(
        model,
        learning_rate,
        shortcuts=shortcuts,
        # With decay, this is AdamW.
        weight_decay=weight_decay or None,
        clipvalue=clipvalue or None,
        clipnorm=clipnorm or None,
        use_ema=average_momentum > 0,
        ema_momentum=average_momentum or 0.99,
    )
    if shortcuts:
        take_shortcuts(model)
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics)


def read_state(state_file: Path) -> SavedState:
    """Read what a run can be resumed from; loads no weights.

    Raises:
        ModelError: If there is nothing, or it is damaged.
    """
    metadata = read_metadata(state_file)
    try:
        history = tuple(EpochRecord.from_dict(entry) for entry in metadata.pop("history"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{state_file}: does not hold the state of a training") from error
    return SavedState(history, metadata)


def load_state(state_file: Path, policy: str, *, shortcuts: bool = True) -> keras.Model:
    """Load the model of the last finished epoch with loss, metrics and optimizer.

    Args:
        state_file: The state of the run.
        policy: The dtype policy that the model was built under. Keras wraps the optimizer by the
            policy in force, and drops the optimizer's state where the wrapping differs.
        shortcuts: As in ``compile_model``.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    # Keras finds the classes that a compiled model names once they are imported.
    from heartseg.training import metrics, partial_volume_loss  # noqa: F401

    register_losses()
    with dtype_policy(policy):
        model = load_model(state_file, compiled=True)
    if shortcuts:
        take_shortcuts(model)
    return model


def is_finished(history: History, settings: FitSettings) -> bool:
    """Say whether training ended: by its upper bound of epochs, or early."""
    return bool(history) and (
        len(history) >= settings.epochs or _epochs_without_gain(history) >= settings.patience
    )


def fit(
    model: keras.Model,
    train: Batches,
    valid: "Batches | None",
    *,
    files: TrainingFiles,
    settings: FitSettings,
    metadata: Mapping[str, object],
    history: History = (),
    track: Track = ignore_progress,
    after_epoch: AfterEpoch | None = None,
    placement: Placement = ALONE,
) -> TrainingResult:
    """Fit a compiled model and keep the best and the last state on disk.

    After each epoch the state is replaced in one step; it holds weights, optimizer and the record
    of all epochs, from which the counters of stopping and reducing follow. Then the best model is
    replaced if the epoch was the best. A kill between the two leaves a state that is the best
    itself, from which the best model is written anew on resumption.

    Args:
        model: A new model, or that of ``load_state``.
        train: Endless batches that begin with epoch ``len(history)``.
        valid: One pass over the validation data; None judges epochs by the training loss.
        files: Where the training keeps what it makes.
        settings: How the model is fitted.
        metadata: What the model files say beside the weights.
        history: The epochs behind; those of ``read_state`` when resuming.
        track: Called after each step and each epoch.
        after_epoch: Called when the state of an epoch has been saved.
        placement: The processes that fit the model together; the first one alone writes files,
            calls ``after_epoch`` and ``track``.

    Returns:
        The best epoch and the record of all.

    Raises:
        ModelError: If a loss is no number, or the best model does not fit the record.
        DataError: If a file cannot be written.
    """
    keeper = _Keeper(model, files, metadata, list(history), after_epoch)
    placement.in_first(keeper.begin)
    if not is_finished(history, settings):

        def finish_epoch(record: EpochRecord) -> None:
            keeper.records.append(record)
            placement.in_first(keeper.save)

        watch = WatchTraining(
            epochs=settings.epochs,
            steps=settings.steps_per_epoch,
            track=track if placement.is_first else ignore_progress,
            finish=finish_epoch,
        )
        monitor = "loss" if valid is None else "val_loss"
        judges = _build_judges(settings, monitor)
        model.fit(
            train,
            validation_data=valid,
            epochs=settings.epochs,
            initial_epoch=len(history),
            steps_per_epoch=settings.steps_per_epoch,
            callbacks=[
                SeedEpochs(settings.seed),
                AgreeOnLogs(placement.agree),
                *_build_boards(files, settings, placement),
                *judges,
                ReplayHistory(history, judges, settings.learning_rate),
                *_build_schedule(settings),
                *_build_averages(model),
                # Last: what it saves has the learning rate of the next epoch.
                watch,
            ],
            shuffle=False,
            verbose=0,
        )
    best = best_of(keeper.records)
    return TrainingResult(files.best, best.epoch, best.judged_loss, tuple(keeper.records))


@dataclass
class _Keeper:
    """Keeps the record of a training, its state and its best model on disk."""

    model: keras.Model
    files: TrainingFiles
    metadata: Mapping[str, object]
    records: list[EpochRecord]
    after_epoch: AfterEpoch | None

    def begin(self) -> None:
        """Tidy up after an interruption."""
        for folder in {self.files.best.parent, self.files.state.parent}:
            remove_unfinished(folder)
        if self.records:
            self._restore_best()
            write_history(self.files.record, self.records)

    def save(self) -> None:
        """Save what the epoch that has just ended left."""
        record = self.records[-1]
        entries = [entry.to_dict() for entry in self.records]
        state = {**self.metadata, "history": entries}
        save_model(self.model, self.files.state, state, with_optimizer=True)
        if best_of(self.records) is record:
            self._save_best(record)
        write_history(self.files.record, self.records)
        if self.after_epoch is not None:
            with averaged_weights(self.model):
                self.after_epoch(record.epoch, self.model)

    def _save_best(self, record: EpochRecord) -> None:
        with averaged_weights(self.model):
            description = {**self.metadata, "training": record.to_dict()}
            save_model(self.model, self.files.best, description)

    def _restore_best(self) -> None:
        """Write the best model anew where a kill came between the state and the best model."""
        best = best_of(self.records)
        if best is self.records[-1]:
            self._save_best(best)
            return
        epoch = read_metadata(self.files.best).get("training", {}).get("epoch")
        if epoch != best.epoch:
            raise ModelError(
                f"{self.files.best}: holds epoch {epoch}, but the best of the record is epoch "
                f"{best.epoch}; start over with --overwrite"
            )


def _build_judges(settings: FitSettings, monitor: str) -> list[keras.callbacks.Callback]:
    """Return what stops training and reduces the rate; their counters are replayed on resuming."""
    judges: list[keras.callbacks.Callback] = [
        keras.callbacks.EarlyStopping(monitor, patience=settings.patience, mode="min")
    ]
    if settings.reduce_learning_rate and settings.schedule == "plateau":
        judges.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor,
                factor=settings.reducer_factor,
                patience=settings.reducer_patience,
                mode="min",
                min_delta=0.0,
                min_lr=settings.min_learning_rate,
            )
        )
    return judges


def _build_boards(
    files: TrainingFiles, settings: FitSettings, placement: Placement
) -> list[keras.callbacks.Callback]:
    if not settings.tensorboard or not placement.is_first:
        return []
    return [keras.callbacks.TensorBoard(str(files.tensorboard), write_graph=False)]


def _build_schedule(settings: FitSettings) -> list[keras.callbacks.Callback]:
    if settings.schedule != "cosine":
        return []
    rate = partial(cosine_rate, epochs=settings.epochs, learning_rate=settings.learning_rate)
    # Keras passes the rate in force as well.
    return [keras.callbacks.LearningRateScheduler(lambda epoch, _rate: rate(epoch))]


def _build_averages(model: keras.Model) -> list[keras.callbacks.Callback]:
    """Let the average of the weights be validated, since it is what is kept."""
    return [keras.callbacks.SwapEMAWeights()] if keeps_average(model) else []


def _epochs_without_gain(history: History) -> int:
    return len(history) - best_of(history).epoch
