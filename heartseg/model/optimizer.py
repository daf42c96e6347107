"""The optimizer: Keras's Adam, with fewer passes over memory where the weights are many."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from heartseg.model.devices import find_backend, find_gpus
from heartseg.model.losses import PACKAGE

MANY_WEIGHTS = 20_000_000
"""Compiling takes 3 s; the 124.6 million weights of the published network gain 0.2 s a step."""


def build_optimizer(model: keras.Model, learning_rate: float, **options: Any) -> keras.Optimizer:  # noqa: ANN401
    """Build Adam for a model.

    Args:
        model: The network.
        learning_rate: Step size.
        options: As ``keras.optimizers.Adam`` takes them.
    """
    adam = OnePassAdam if model.count_params() >= MANY_WEIGHTS else keras.optimizers.Adam
    return adam(learning_rate, **options)


@keras.saving.register_keras_serializable(PACKAGE)
class OnePassAdam(keras.optimizers.Adam):
    """Adam whose update of all weights is compiled as one operation, on processors.

    Clipping, both moments and the step are some ten operations of Keras, each of which reads and
    writes an array as large as the weights. XLA makes one of them. The result is the same but for
    rounding. GPUs, several replicas and JAX go Keras's own way.
    """

    def apply(
        self,
        grads: Sequence[keras.KerasTensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Update the weights by their gradients; see ``keras.Optimizer.apply``."""
        plain = super().apply
        if find_backend() != "tensorflow" or find_gpus() or tf.distribute.has_strategy():
            plain(grads, trainable_variables)
            return
        if trainable_variables is not None and not self.built:
            self.build(trainable_variables)
        dtypes = [gradient.dtype for gradient in grads]

        @tf.function(jit_compile=True)
        def update(given: list[tf.Tensor]) -> None:
            cast = [tf.cast(gradient, dtype) for gradient, dtype in zip(given, dtypes, strict=True)]
            plain(cast, trainable_variables)

        update([_before_cast(gradient) for gradient in grads])


def _before_cast(gradient: tf.Tensor) -> tf.Tensor:
    """Return what a gradient was cast from, if it was: the compiled update casts on its way."""
    operation = getattr(gradient, "op", None)
    return operation.inputs[0] if operation and operation.type == "Cast" else gradient
