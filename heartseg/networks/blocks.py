"""The building blocks of the U-Net for slices."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from heartseg.networks.plan import CONVS_PER_LEVEL, Level

NextSeed = Callable[[], int | None]
"""Returns a new seed for each layer, so that equal layers do not start with equal weights."""

LARGEST_GROUP_COUNT = 8


def seed_sequence(seed: int | None) -> NextSeed:
    """Return a function that returns a different seed at each call.

    Args:
        seed: The same seed gives the same sequence. Without one the function always returns
            ``None``: Keras then draws at random.
    """
    if seed is None:
        return lambda: None
    generator = np.random.default_rng(seed)
    return lambda: int(generator.integers(2**31))


def conv_block(
    features: keras.KerasTensor,
    level: Level,
    *,
    normalization: str,
    activation: str,
    next_seed: NextSeed,
    name: str,
) -> keras.KerasTensor:
    """Apply two convolutions with dropout between them, as every level of the network does.

    Args:
        features: ``(B, H, W, C)``.
        level: Filters, kernel, dilation and dropout.
        normalization: The kind of normalisation after each convolution, see ``normalize``.
        activation: Name of a Keras activation, applied after the normalisation.
        next_seed: Source of seeds for initial weights and dropout.
        name: Prefix of the layers' names.

    Returns:
        ``(B, H, W, level.filters)``.
    """
    for step in range(1, CONVS_PER_LEVEL + 1):
        features = layers.Conv2D(
            level.filters,
            level.kernel,
            padding="same",
            dilation_rate=level.dilation,
            # A normalisation would remove a bias, and it has an offset.
            use_bias=normalization == "none",
            kernel_initializer=keras.initializers.HeNormal(seed=next_seed()),
            name=f"{name}_conv_{step}",
        )(features)
        features = normalize(features, normalization, name=f"{name}_norm_{step}")
        features = layers.Activation(activation, name=f"{name}_{activation}_{step}")(features)
        if step < CONVS_PER_LEVEL and level.dropout > 0:
            features = layers.Dropout(level.dropout, seed=next_seed(), name=f"{name}_dropout")(
                features
            )
    return features


def normalize(features: keras.KerasTensor, kind: str, *, name: str) -> keras.KerasTensor:
    """Normalise features over the batch, over groups of channels, or over each channel alone.

    Args:
        features: ``(B, H, W, C)``.
        kind: ``none`` (features are returned unchanged), ``batch``, ``group`` or ``instance``.
        name: The layer's name.

    Raises:
        ValueError: If the kind is not one of these.

    References:
        Wu and He (2018). Group normalization. https://doi.org/10.1007/978-3-030-01261-8_1
    """
    if kind == "none":
        return features
    if kind == "batch":
        return layers.BatchNormalization(name=name)(features)
    if kind == "group":
        groups = math.gcd(features.shape[-1], LARGEST_GROUP_COUNT)
        return layers.GroupNormalization(groups, name=name)(features)
    if kind == "instance":
        # For Keras, -1 means one group per channel.
        return layers.GroupNormalization(groups=-1, name=name)(features)
    raise ValueError(f"normalization: expected none, batch, group or instance, got {kind!r}")


def upsample(
    features: keras.KerasTensor, filters: int, *, next_seed: NextSeed, name: str
) -> keras.KerasTensor:
    """Double height and width by a transposed convolution, kernel 2x2, stride 2.

    Args:
        features: ``(B, H, W, C)``.
        filters: Channels of the result.
        next_seed: Source of seeds for initial weights.
        name: The layer's name.

    Returns:
        ``(B, 2H, 2W, filters)``.
    """
    return layers.Conv2DTranspose(
        filters,
        2,
        strides=2,
        padding="same",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
        name=name,
    )(features)
