"""Averaged weights, and the learning rate that goes with them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras

WARM_UP_EPOCHS = 3
LAST_SHARE = 0.02
"""What is left of the learning rate at the end."""


def cosine_rate(epoch: int, *, epochs: int, learning_rate: float) -> float:
    """Return the learning rate of an epoch: a short rise, then half a cosine down.

    Args:
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs in all.
        learning_rate: The rate at its highest.

    References:
        Loshchilov and Hutter (2017). SGDR. https://arxiv.org/abs/1608.03983
    """
    rise = min(1.0, (epoch + 1) / WARM_UP_EPOCHS)
    fall = (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
    return learning_rate * rise * (LAST_SHARE + (1 - LAST_SHARE) * fall)


def keeps_average(model: keras.Model) -> bool:
    """Whether the optimizer of a model keeps an average of its weights."""
    optimizer = getattr(model, "optimizer", None)
    return optimizer is not None and bool(getattr(_innermost(optimizer), "use_ema", False))


def _innermost(optimizer: keras.Optimizer) -> keras.Optimizer:
    """Return what updates the weights: in float16 Keras wraps it to scale the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give a model the average of its weights for a while, if its optimizer keeps one.

    References:
        Polyak and Juditsky (1992). Averaging. https://doi.org/10.1137/0330046
    """
    if not keeps_average(model):
        yield
        return
    optimizer = _innermost(model.optimizer)
    kept = model.get_weights()
    # Keras's own way of putting the average in place; what it replaces is put back below.
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(kept)
