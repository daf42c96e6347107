"""Shortcuts: the same training step with less work, where Keras leaves time on the table.

They reach into layers and the optimizer, so they hold for the versions of Keras that
``pyproject.toml`` allows; tests compare a step with and without them. ``train.shortcuts: off``
trains with plain Keras.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from heartseg.training.devices import find_backend, find_gpus
from heartseg.training.label_loss import PACKAGE

LARGE_NETWORK = 20_000_000
"""Compiling takes 3 s; the 124.6 million weights of the published network gain 0.2 s a step."""
FEW_PIXELS = 64
LARGE_KERNEL = 1_000_000


def take_shortcuts(model: keras.Model) -> None:
    """Let a processor do less work for the same network; GPUs and JAX compute in Keras's way."""
    if find_backend() == "tensorflow" and not find_gpus():
        use_products(model)


def build_optimizer(
    model: keras.Model,
    learning_rate: float,
    *,
    shortcuts: bool = True,
    **options: Any,  # noqa: ANN401
) -> keras.Optimizer:
    """Build Adam for a model.

    Args:
        model: The network.
        learning_rate: Step size.
        shortcuts: Whether a large network may be updated in one pass.
        options: As ``keras.optimizers.Adam`` takes them.
    """
    one_pass = shortcuts and model.count_params() >= LARGE_NETWORK
    adam = OnePassAdam if one_pass else keras.optimizers.Adam
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


def use_products(model: keras.Model) -> None:
    """Let the deepest convolutions of a model be computed as products, on processors.

    The kernels of the published network hold up to 38 million weights for 16 pixels. There
    TensorFlow's gradient of a convolution takes ten times as long as the product that it equals
    (docs/maintainers/benchmarks.md). Layers, weights and what is saved stay as they are.

    Args:
        model: A built network on TensorFlow; changed in memory, but for its other layers.
    """
    for layer in filter(_is_deep, model.layers):
        if isinstance(layer, keras.layers.Conv2D) and layer.strides == (1, 1):
            layer.convolution_op = partial(_convolve, neighbours=_neighbours(layer))
        elif isinstance(layer, keras.layers.Conv2DTranspose) and layer.strides == layer.kernel_size:
            layer.call = partial(_spread, layer)


def _is_deep(layer: keras.layers.Layer) -> bool:
    if not isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv2DTranspose)):
        return False
    _, height, width, _ = layer.input.shape
    is_small = height is not None and width is not None and height * width <= FEW_PIXELS
    is_usual = layer.padding == "same" and layer.data_format == "channels_last"
    is_whole = getattr(layer, "groups", 1) == 1
    return is_small and is_usual and is_whole and math.prod(layer.kernel.shape) >= LARGE_KERNEL


def _neighbours(layer: keras.layers.Conv2D) -> NDArray[np.float32]:
    """Return which pixel each weight of the kernel meets at each pixel; none beyond the border.

    Returns:
        ``(H W kh kw, H W)`` of 0 and 1.
    """
    _, height, width, _ = layer.input.shape
    kernel, steps = layer.kernel_size, layer.dilation_rate
    reach = [step * (side - 1) for step, side in zip(steps, kernel, strict=True)]
    pixels = np.eye(height * width, dtype=np.float32).reshape(height, width, -1)
    padded = np.pad(pixels, [*((r // 2, r - r // 2) for r in reach), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, [r + 1 for r in reach], axis=(0, 1))
    return np.moveaxis(windows[..., :: steps[0], :: steps[1]], 2, -1).reshape(-1, height * width)


def _convolve(
    features: keras.KerasTensor, kernel: keras.KerasTensor, *, neighbours: NDArray[np.float32]
) -> keras.KerasTensor:
    """Convolve, as ``keras.layers.Conv2D.convolution_op`` does."""
    _, height, width, channels = features.shape
    *_, filters = kernel.shape
    pick = ops.cast(neighbours, features.dtype)
    met = ops.matmul(pick, ops.reshape(features, (-1, height * width, channels)))
    weights = ops.reshape(kernel, (-1, filters))
    product = ops.matmul(ops.reshape(met, (-1, weights.shape[0])), weights)
    return ops.reshape(product, (-1, height, width, filters))


def _spread(layer: keras.layers.Conv2DTranspose, features: keras.KerasTensor) -> keras.KerasTensor:
    """Make a block of pixels of each pixel, as ``keras.layers.Conv2DTranspose`` does."""
    kernel = ops.convert_to_tensor(layer.kernel)
    _, height, width, channels = features.shape
    rows, columns, filters, _ = kernel.shape
    weights = ops.transpose(ops.reshape(kernel, (-1, channels)))
    blocks = ops.matmul(ops.reshape(features, (-1, channels)), weights)
    blocks = ops.reshape(blocks, (-1, height, width, rows, columns, filters))
    spread = ops.transpose(blocks, (0, 1, 3, 2, 4, 5))
    spread = ops.reshape(spread, (-1, height * rows, width * columns, filters))
    if layer.use_bias:
        spread = ops.add(spread, layer.bias)
    return layer.activation(spread)
