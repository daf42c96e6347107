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
from heartseg.training.averaging import averaged_weights, cosine_rate
from heartseg.training.callbacks import (
    AgreeOnLogs,
    ReplayHistory,
    SeedEpochs,
    Track,
    WatchTraining,
    ignore_progress,
)
from heartseg.training.history import EpochRecord, History, best_of, write_history
from heartseg.training.placement import Placement
from heartseg.training.precision import dtype_policy
from heartseg.training.shortcuts import build_optimizer, may_take_shortcuts, use_products

if TYPE_CHECKING:
    import tensorflow as tf

Batches: TypeAlias = "tf.data.Dataset[Any]"

BEST = "best.keras"
LAST = "last/state.keras"
TENSORBOARD = "tensorboard"
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
class TrainingResult:
    """What came of training.

    Attributes:
        best_file: The model of the epoch with the lowest loss, of the validation if there is one.
        best_epoch: That epoch, from 1.
        best_loss: That loss.
        history: Every epoch, those before a resumption included.
        stopped_early: Whether training ended before its upper bound of epochs.
    """

    best_file: Path
    best_epoch: int
    best_loss: float
    history: History
    stopped_early: bool


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
    """
    optimizer = build_optimizer(
        model,
        learning_rate,
        # With decay, this is AdamW.
        weight_decay=weight_decay or None,
        clipvalue=clipvalue or None,
        clipnorm=clipnorm or None,
        use_ema=average_momentum > 0,
        ema_momentum=average_momentum or 0.99,
    )
    _take_shortcuts(model)
    model.compile(optimizer=optimizer, loss=loss, metrics=metrics)


def _take_shortcuts(model: keras.Model) -> None:
    """Let a processor do less work for the same network; GPUs and JAX go their own way."""
    if may_take_shortcuts():
        use_products(model)


def read_state(run_dir: Path) -> SavedState:
    """Read what a run can be resumed from; loads no weights.

    Raises:
        ModelError: If there is nothing, or it is damaged.
    """
    metadata = read_metadata(run_dir / LAST)
    try:
        history = tuple(EpochRecord.from_dict(entry) for entry in metadata.pop("history"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{run_dir / LAST}: does not hold the state of training") from error
    return SavedState(history, metadata)


def load_state(run_dir: Path, policy: str) -> keras.Model:
    """Load the model of the last finished epoch with loss, metrics and optimizer.

    Args:
        run_dir: Folder of the run.
        policy: The dtype policy that the model was built under. Keras wraps the optimizer by the
            policy in force, and drops the optimizer's state where the wrapping differs.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    # Importing them registers the classes that a compiled model names.
    from heartseg.training import losses, metrics  # noqa: F401

    with dtype_policy(policy):
        model = load_model(run_dir / LAST, compiled=True)
    _take_shortcuts(model)
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
    run_dir: Path,
    settings: FitSettings,
    metadata: Mapping[str, object],
    history: History = (),
    track: Track = ignore_progress,
    after_epoch: AfterEpoch | None = None,
    placement: Placement = ALONE,
) -> TrainingResult:
    """Fit a compiled model and keep the best and the last state on disk.

    After each epoch ``last/state.keras`` is replaced in one step; it holds weights, optimizer and
    the record of all epochs, from which the counters of stopping and reducing follow. Then
    ``best.keras`` is replaced if the epoch was the best. A kill between the two leaves a last
    state that is the best itself, from which ``best.keras`` is written anew on resumption.

    Args:
        model: A new model, or that of ``load_state``.
        train: Endless batches that begin with epoch ``len(history)``.
        valid: One pass over the validation slices; None judges epochs by the training loss.
        run_dir: Where the files go.
        settings: How the model is fitted.
        metadata: What the model files say beside the weights.
        history: The epochs behind; those of ``read_state`` when resuming.
        track: Told after each step and each epoch.
        after_epoch: Called when the state of an epoch has been saved.
        placement: The processes that fit the model together; the first one alone writes files,
            calls ``after_epoch`` and is listened to.

    Returns:
        The best epoch and the record of all.

    Raises:
        ModelError: If a loss is no number, or ``best.keras`` does not fit the record.
        DataError: If a file cannot be written.
    """
    records = list(history)

    def begin() -> None:
        remove_unfinished(run_dir)
        remove_unfinished((run_dir / LAST).parent)
        if records:
            _restore_best(model, run_dir, records, metadata)
            write_history(run_dir, records)

    def save(record: EpochRecord) -> None:
        entries = [entry.to_dict() for entry in records]
        save_model(model, run_dir / LAST, {**metadata, "history": entries}, with_optimizer=True)
        if best_of(records) is record:
            _save_best(model, run_dir, record, metadata)
        write_history(run_dir, records)
        if after_epoch is not None:
            with averaged_weights(model):
                after_epoch(record.epoch, model)

    def finish_epoch(record: EpochRecord) -> None:
        records.append(record)
        placement.in_first(lambda: save(record))

    placement.in_first(begin)
    if not is_finished(tuple(records), settings):
        watch = WatchTraining(
            epochs=settings.epochs,
            steps=settings.steps_per_epoch,
            track=track if placement.is_first else ignore_progress,
            finish=finish_epoch,
        )
        model.fit(
            train,
            validation_data=valid,
            epochs=settings.epochs,
            initial_epoch=len(records),
            steps_per_epoch=settings.steps_per_epoch,
            callbacks=_build_callbacks(
                run_dir,
                settings,
                history,
                watch,
                monitor="loss" if valid is None else "val_loss",
                placement=placement,
                averaged=getattr(model.optimizer, "use_ema", False),
            ),
            shuffle=False,
            verbose=0,
        )
    best = best_of(records)
    return TrainingResult(
        best_file=run_dir / BEST,
        best_epoch=best.epoch,
        best_loss=best.judged_loss,
        history=tuple(records),
        stopped_early=len(records) < settings.epochs,
    )


def _build_callbacks(
    run_dir: Path,
    settings: FitSettings,
    history: History,
    watch: WatchTraining,
    *,
    monitor: str,
    placement: Placement,
    averaged: bool,
) -> list[keras.callbacks.Callback]:
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
    rates = []
    if settings.schedule == "cosine":
        rate = partial(cosine_rate, epochs=settings.epochs, learning_rate=settings.learning_rate)
        # Keras passes the rate in force as well.
        rates = [keras.callbacks.LearningRateScheduler(lambda epoch, _rate: rate(epoch))]
    boards = []
    if settings.tensorboard and placement.is_first:
        boards = [
            keras.callbacks.TensorBoard(str(run_dir / TENSORBOARD), write_graph=False),
        ]
    # What is validated is what is kept.
    averages = [keras.callbacks.SwapEMAWeights()] if averaged else []
    # The watch comes last: what it saves has the learning rate of the next epoch.
    return [
        SeedEpochs(settings.seed),
        AgreeOnLogs(placement.agree),
        *boards,
        *judges,
        ReplayHistory(history, judges, settings.learning_rate),
        *rates,
        *averages,
        watch,
    ]


def _epochs_without_gain(history: History) -> int:
    return len(history) - best_of(history).epoch


def _save_best(
    model: keras.Model, run_dir: Path, record: EpochRecord, metadata: Mapping[str, object]
) -> None:
    with averaged_weights(model):
        save_model(model, run_dir / BEST, {**metadata, "training": record.to_dict()})


def _restore_best(
    model: keras.Model, run_dir: Path, records: list[EpochRecord], metadata: Mapping[str, object]
) -> None:
    """Write ``best.keras`` anew where a kill came between the last state and the best model."""
    best = best_of(records)
    if best is records[-1]:
        _save_best(model, run_dir, best, metadata)
        return
    epoch = read_metadata(run_dir / BEST).get("training", {}).get("epoch")
    if epoch != best.epoch:
        raise ModelError(
            f"{run_dir / BEST}: holds epoch {epoch}, but the best of the record is epoch "
            f"{best.epoch}; start over with --overwrite"
        )
