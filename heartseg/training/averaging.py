"""Averaged weights, and the learning rate that goes with them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras

WARM_UP_EPOCHS = 3
FINAL_FRACTION = 0.02
"""The learning rate at the end, as a fraction of its highest value."""


def cosine_rate(epoch: int, *, epochs: int, learning_rate: float) -> float:
    """Return the learning rate of an epoch: a short rise times a half cosine that falls.

    Args:
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs in all.
        learning_rate: The highest rate.

    References:
        Loshchilov and Hutter (2017). SGDR. https://arxiv.org/abs/1608.03983
    """
    rise = min(1.0, (epoch + 1) / WARM_UP_EPOCHS)
    fall = (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
    return learning_rate * rise * (FINAL_FRACTION + (1 - FINAL_FRACTION) * fall)


def keeps_average(model: keras.Model) -> bool:
    """Whether the optimizer of a model keeps an average of its weights."""
    optimizer = getattr(model, "optimizer", None)
    return optimizer is not None and bool(getattr(_innermost(optimizer), "use_ema", False))


def _innermost(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Return what updates the weights: in float16 Keras wraps it to scale the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give a model the average of its weights within the block, if its optimizer keeps one.

    References:
        Polyak and Juditsky (1992). Averaging. https://doi.org/10.1137/0330046
    """
    if not keeps_average(model):
        yield
        return
    optimizer = _innermost(model.optimizer)
    kept = model.get_weights()
    # Keras's own way of using the average. The weights that it replaces are restored below.
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(kept)
