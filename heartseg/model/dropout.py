"""Dropout that draws fewer random bits, which cost a processor more than the rest of it."""

from functools import partial

import keras
import tensorflow as tf

BITS = 16


def use_few_random_bits(model: keras.Model) -> None:
    """Let the dropout of a model decide by 16 random bits an element, on processors.

    Keras draws a random number of 32 bits for each element and makes a float of it: three times
    the work (docs/benchmarks.md). An element is dropped with the layer's rate to within 1 / 131072,
    and the others are scaled by what that leaves. Layers and what is saved stay as they are.

    Args:
        model: A built network on TensorFlow; changed in memory.
    """
    for layer in model.layers:
        # A subclass may drop other things than single elements.
        is_plain = type(layer) is keras.layers.Dropout and layer.noise_shape is None
        if is_plain and 0 < layer.rate < 1 - 2.0**-BITS:
            layer.call = partial(_drop, layer)


def _drop(layer: keras.layers.Dropout, features: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Drop elements while training, as ``keras.layers.Dropout`` does."""
    if not training:
        return features
    threshold = round(layer.rate * 2**BITS)
    size = tf.size(features)
    seed = tf.cast(layer.seed_generator.next() % tf.int32.max, tf.int32)
    words = tf.random.stateless_uniform(
        [-(-size // (64 // BITS))], seed, minval=None, maxval=None, dtype=tf.uint64
    )
    bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:size]
    kept = tf.reshape(bits, tf.shape(features)) >= tf.constant(threshold, tf.uint16)
    scale = tf.cast(2**BITS / (2**BITS - threshold), features.dtype)
    return tf.where(kept, features * scale, tf.zeros([], features.dtype))
