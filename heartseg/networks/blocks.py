"""The building blocks of the U-Net for slices."""

import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from heartseg.networks.plan import CONVS_PER_LEVEL, Level, attention_filters

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
    residual: bool = False,
) -> keras.KerasTensor:
    """Apply two convolutions with dropout between them, as every level of the network does.

    Args:
        features: ``(B, H, W, C)``.
        level: Filters, kernel, dilation and dropout.
        normalization: The kind of normalisation after each convolution, see ``normalize``.
        activation: Name of a Keras activation, applied after the normalisation.
        next_seed: Source of seeds for initial weights and dropout.
        name: Prefix of the layers' names.
        residual: Whether the input is added before the last activation; through a convolution of
            one pixel where it has another number of channels.

    Returns:
        ``(B, H, W, level.filters)``.

    References:
        He et al. (2016). Deep residual learning. https://doi.org/10.1109/CVPR.2016.90
    """
    inputs = features
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
        if residual and step == CONVS_PER_LEVEL:
            shortcut = _match_channels(
                inputs, level.filters, normalization=normalization, next_seed=next_seed, name=name
            )
            features = layers.Add(name=f"{name}_sum")([features, shortcut])
        features = layers.Activation(activation, name=f"{name}_{activation}_{step}")(features)
        if step < CONVS_PER_LEVEL and level.dropout > 0:
            features = layers.Dropout(level.dropout, seed=next_seed(), name=f"{name}_dropout")(
                features
            )
    return features


def _match_channels(
    features: keras.KerasTensor,
    filters: int,
    *,
    normalization: str,
    next_seed: NextSeed,
    name: str,
) -> keras.KerasTensor:
    """Return ``(B, H, W, filters)``: the features, or a projection of each pixel."""
    if features.shape[-1] == filters:
        return features
    projected = layers.Conv2D(
        filters,
        1,
        use_bias=normalization == "none",
        kernel_initializer=keras.initializers.HeNormal(seed=next_seed()),
        name=f"{name}_shortcut",
    )(features)
    return normalize(projected, normalization, name=f"{name}_shortcut_norm")


def attend(
    skip: keras.KerasTensor, gate: keras.KerasTensor, *, next_seed: NextSeed, name: str
) -> keras.KerasTensor:
    """Weight each pixel of a skip connection by how far it matters, given what lies below.

    Args:
        skip: ``(B, H, W, C)`` features of the encoder.
        gate: ``(B, H, W, C)`` features of the level below, upsampled.
        next_seed: Source of seeds for initial weights.
        name: Prefix of the layers' names.

    Returns:
        ``(B, H, W, C)``, the skip connection times weights between 0 and 1.

    References:
        Oktay et al. (2018). Attention U-Net. https://arxiv.org/abs/1804.03999
    """

    def convolve(features: keras.KerasTensor, filters: int, part: str) -> keras.KerasTensor:
        return layers.Conv2D(
            filters,
            1,
            kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
            name=f"{name}_{part}",
        )(features)

    hidden = attention_filters(skip.shape[-1])
    joined = layers.Add(name=f"{name}_sum")(
        [convolve(skip, hidden, "skip"), convolve(gate, hidden, "gate")]
    )
    joined = layers.Activation("relu", name=f"{name}_relu")(joined)
    weights = layers.Activation("sigmoid", name=f"{name}_weights")(convolve(joined, 1, "score"))
    return layers.Multiply(name=f"{name}_product")([skip, weights])


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
