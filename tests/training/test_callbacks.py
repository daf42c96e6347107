import math

import keras
import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.training.callbacks import AgreeOnLogs, ReplayHistory, SeedEpochs, WatchTraining
from heartseg.training.history import EpochRecord

EPOCHS, STEPS = 3, 2


def build_network(*layers, learning_rate=0.5):
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


def record(epoch, val_loss):
    return EpochRecord(epoch, {"loss": 1.0, "val_loss": val_loss}, learning_rate=0.5, seconds=1.0)


def make_watch(model, tracked=None, finished=None):
    watch = WatchTraining(
        epochs=EPOCHS,
        steps=STEPS,
        track=(tracked if tracked is not None else []).append,
        finish=(finished if finished is not None else []).append,
    )
    watch.set_model(model)
    return watch


def dropped(model, callback, epoch):
    callback.on_epoch_begin(epoch)
    return np.asarray(model.layers[0](np.ones((1, 64), np.float32), training=True))


def test_dropout_depends_on_seed_and_epoch_alone():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5)])
    callback, other = SeedEpochs(7), SeedEpochs(8)
    for seeded in (callback, other):
        seeded.set_model(model)

    first, second = (dropped(model, callback, epoch) for epoch in (3, 4))

    # The same epoch again, after another one, as in a run that resumes.
    np.testing.assert_array_equal(dropped(model, callback, 3), first)
    assert (first != second).any()
    assert (dropped(model, other, 3) != first).any()


def test_two_layers_of_one_epoch_drop_different_units():
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dropout(0.5), keras.layers.Dropout(0.5)]
    )
    callback = SeedEpochs(7)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    ones = np.ones((1, 64), np.float32)
    first, second = (np.asarray(layer(ones, training=True)) for layer in model.layers)
    assert (first != second).any()


def test_all_callbacks_see_the_logs_that_the_processes_agreed_on():
    logs = {"loss": np.float32(0.5), "val_loss": np.float32(0.25)}
    AgreeOnLogs(lambda values: {name: value * 2 for name, value in values.items()}).on_epoch_end(
        0, logs
    )
    assert logs == {"loss": 1.0, "val_loss": 0.5}


def test_past_epochs_restore_the_counters_and_the_learning_rate():
    model = build_network()
    model.optimizer.learning_rate = 0.001
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=3)
    reducer = keras.callbacks.ReduceLROnPlateau(
        "val_loss", factor=0.5, patience=2, min_delta=0.0, min_lr=0
    )
    history = [record(1, 0.5), record(2, 0.4), record(3, 0.6), record(4, 0.6)]
    replay = ReplayHistory(history, [stopping, reducer], learning_rate=0.5)
    for callback in (stopping, reducer, replay):
        callback.set_model(model)
        callback.on_train_begin()

    # Two epochs without a better loss: the reducer halves the rate, stopping waits for one more.
    assert float(model.optimizer.learning_rate) == 0.25
    assert (stopping.wait, stopping.best) == (2, 0.4)


def test_progress_counts_steps_and_epochs_from_1():
    tracked, finished = [], []
    watch = make_watch(build_network(), tracked, finished)
    watch.on_epoch_begin(1)
    watch.on_train_batch_end(0, {"loss": 0.5})
    watch.on_epoch_end(1, {"loss": 0.5, "val_loss": 0.4, "learning_rate": 9.0})

    step, end = tracked
    assert (step.epoch, step.epochs, step.step, step.steps) == (2, 3, 1, 2)
    assert (step.logs, step.is_epoch_end) == ({"loss": 0.5}, False)
    assert (end.step, end.is_epoch_end, end.learning_rate) == (2, True, 0.5)
    (entry,) = finished
    # The learning rate has a place of its own in the record.
    assert (entry.epoch, entry.learning_rate) == (2, 0.5)
    assert entry.logs == {"loss": 0.5, "val_loss": 0.4}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_training_at_once(value):
    tracked = []
    watch = make_watch(build_network(), tracked)
    watch.on_epoch_begin(4)
    with pytest.raises(ModelError, match=rf"epoch 5: loss is {value}.*train\.learning_rate"):
        watch.on_train_batch_end(0, {"loss": value})
    assert tracked == []


def test_an_epoch_with_a_validation_loss_that_is_not_finite_is_not_finished():
    finished = []
    watch = make_watch(build_network(), finished=finished)
    watch.on_epoch_begin(0)
    with pytest.raises(ModelError, match="epoch 1: val_loss is nan"):
        watch.on_epoch_end(0, {"loss": 0.5, "val_loss": math.nan})
    assert finished == []


def test_a_metric_without_a_value_does_not_stop_training():
    finished = []
    watch = make_watch(build_network(), finished=finished)
    watch.on_epoch_begin(0)
    watch.on_epoch_end(0, {"loss": 0.5, "dice_PA": math.nan})
    assert math.isnan(finished[0].logs["dice_PA"])
