"""The published network in both precisions, its operations, and the speed of the machine."""

import math
import statistics
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from _turns import cost_of

from heartseg.networks.unet import build_unet
from heartseg.training.precision import dtype_policy

SIZE, CLASSES = 512, 9


def build_published(policy: str, *, base_filters: int) -> keras.Model:
    """Build the published network under a dtype policy, with 16 filters or, for a try, fewer."""
    with dtype_policy(policy):
        return build_unet(
            image_size=(SIZE, SIZE), num_classes=CLASSES, base_filters=base_filters, seed=1
        )


def forward_flops(model: keras.Model) -> float:
    """Count the multiplications and additions of all convolutions for one image."""
    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            places = math.prod(layer.input.shape[1:3])
        elif isinstance(layer, keras.layers.Conv2D):
            places = math.prod(layer.output.shape[1:3])
        else:
            continue
        total += 2.0 * places * math.prod(layer.kernel.shape)
    return total


def matrix_rate(dtype: str, *, side: int = 2048) -> float:
    """Measure the speed of products of square matrices on this machine, in FLOP/s."""
    matrix = tf.constant(np.random.default_rng(0).normal(size=(side, side)), dtype)
    product = tf.function(tf.matmul)
    multiply = partial(product, matrix, matrix)
    multiply()
    seconds = [cost_of(lambda: multiply().numpy()).wall_s for _ in range(5)]
    return 2.0 * side**3 / statistics.median(seconds)
