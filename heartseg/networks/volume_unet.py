"""The 3D U-Net of the packaged model, which sees a whole heart at once, and its parts.

Most of its layers work at half the resolution of its input.
"""

from collections.abc import Sequence

import keras
from keras import layers

from heartseg.networks.blocks import NextSeed, seed_sequence

OUTPUT_NAME = "logits"
GROUPS = 8
EPSILON = 1e-3
"""Added to the variance of a group: in dark regions the variance is close to 0 and mostly noise."""


def build_volume_unet(
    *,
    grid: tuple[int, int, int],
    filters: Sequence[int] = (32, 64, 128, 192),
    num_classes: int = 9,
    seed: int | None = None,
) -> keras.Model:
    """Build a residual 3D U-Net from ``(B, *grid, 1)`` images to ``(B, *grid, classes)`` logits.

    Blocks of 2 x 2 x 2 voxels become channels before the first convolution, and channels become
    voxels again after the last one. This saves most of the work at full resolution. Logits are
    float32 whatever the precision of the other layers.

    Args:
        grid: Voxels along the three axes, multiples of ``2 ** len(filters)``.
        filters: Channels of each level, the finest first; multiples of 8.
        num_classes: Classes, background included.
        seed: Makes initial weights reproducible.

    Raises:
        ValueError: If the grid or the filters do not fit.

    References:
        Cicek et al. (2016). 3D U-Net. https://doi.org/10.1007/978-3-319-46723-8_49
        Shi et al. (2016). Sub-pixel convolution. https://doi.org/10.1109/CVPR.2016.207
    """
    check_sizes(grid, filters)
    next_seed = seed_sequence(seed)
    images = keras.Input((*grid, 1), name="images")
    features = encode_and_decode(space_to_depth(images), filters, next_seed=next_seed)
    features = _point_wise(features, 8 * num_classes, next_seed=next_seed, name="classes")
    # float32 keeps softmax and loss stable when the layers above run in mixed precision.
    logits = layers.Activation("linear", dtype="float32", name=OUTPUT_NAME)(
        depth_to_space(features)
    )
    return keras.Model(images, logits, name="volume_unet")


def check_sizes(grid: tuple[int, int, int], filters: Sequence[int]) -> None:
    """Check that a network of these channels can halve a grid at each level.

    Raises:
        ValueError: If it cannot, or the channels do not fit into groups.
    """
    step = 2 ** len(filters)
    if not filters or len(grid) != 3 or any(side < step or side % step for side in grid):
        raise ValueError(f"grid: expected three multiples of {step}, got {tuple(grid)}")
    if any(width < GROUPS or width % GROUPS for width in filters):
        raise ValueError(f"filters: expected multiples of {GROUPS}, got {tuple(filters)}")


def encode_and_decode(
    features: keras.KerasTensor, filters: Sequence[int], *, next_seed: NextSeed
) -> keras.KerasTensor:
    """Apply the levels of the U-Net, down and up again.

    Args:
        features: ``(B, P, I, R, C)``.
        filters: Channels of each level, the finest first.
        next_seed: Source of seeds for initial weights.

    Returns:
        ``(B, P, I, R, filters[0])``.
    """
    features = _unit(features, filters[0], next_seed=next_seed, name="stem")
    return _decode(_encode(features, filters, next_seed), filters, next_seed)


def _encode(
    features: keras.KerasTensor, filters: Sequence[int], next_seed: NextSeed
) -> list[keras.KerasTensor]:
    """Return the features of each level, the finest first."""
    skips = []
    for level, width in enumerate(filters):
        if level:
            features = layers.Conv3D(
                width,
                2,
                strides=2,
                kernel_initializer=keras.initializers.HeNormal(seed=next_seed()),
                name=f"down_{level}",
            )(features)
        features = _residual(
            features, width, units=2 if level else 1, next_seed=next_seed, name=f"encoder_{level}"
        )
        skips.append(features)
    return skips


def _decode(
    skips: Sequence[keras.KerasTensor], filters: Sequence[int], next_seed: NextSeed
) -> keras.KerasTensor:
    """Bring the coarsest features back to the finest level, adding those of each level."""
    features = skips[-1]
    for level in reversed(range(len(filters) - 1)):
        features = _point_wise(features, filters[level], next_seed=next_seed, name=f"mix_{level}")
        features = layers.UpSampling3D(2, name=f"up_{level}")(features)
        features = layers.Add(name=f"skip_{level}")([features, skips[level]])
        features = _residual(
            features, filters[level], units=2, next_seed=next_seed, name=f"decoder_{level}"
        )
    return features


def space_to_depth(features: keras.KerasTensor) -> keras.KerasTensor:
    """Turn blocks of 2 x 2 x 2 voxels into channels.

    Args:
        features: ``(B, P, I, R, C)``; P, I and R even.

    Returns:
        ``(B, P / 2, I / 2, R / 2, 8 C)``.
    """
    p, i, r, channels = features.shape[1:]
    features = layers.Reshape((p // 2, 2, i // 2, 2, r // 2, 2 * channels))(features)
    features = layers.Permute((1, 3, 5, 2, 4, 6))(features)
    return layers.Reshape((p // 2, i // 2, r // 2, 8 * channels))(features)


def depth_to_space(features: keras.KerasTensor) -> keras.KerasTensor:
    """Turn channels into blocks of 2 x 2 x 2 voxels: the inverse of ``space_to_depth``.

    Args:
        features: ``(B, P, I, R, 8 C)``.

    Returns:
        ``(B, 2 P, 2 I, 2 R, C)``.
    """
    p, i, r, channels = features.shape[1:]
    features = layers.Reshape((p, i, r, 2, 2, channels // 4))(features)
    features = layers.Permute((1, 4, 2, 5, 3, 6))(features)
    return layers.Reshape((2 * p, 2 * i, 2 * r, channels // 8))(features)


def _residual(
    features: keras.KerasTensor, width: int, *, units: int, next_seed: NextSeed, name: str
) -> keras.KerasTensor:
    shortcut = features
    for unit in range(units):
        features = _unit(features, width, next_seed=next_seed, name=f"{name}_{unit}")
    return layers.Add(name=f"{name}_add")([features, shortcut])


def _unit(
    features: keras.KerasTensor, width: int, *, next_seed: NextSeed, name: str
) -> keras.KerasTensor:
    """Apply a 3 x 3 x 3 convolution, a group normalisation and an activation."""
    features = layers.Conv3D(
        width,
        3,
        padding="same",
        # The normalisation would remove a bias, and it has an offset.
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed=next_seed()),
        name=f"{name}_conv",
    )(features)
    features = layers.GroupNormalization(GROUPS, epsilon=EPSILON, name=f"{name}_norm")(features)
    return layers.Activation("relu", name=f"{name}_relu")(features)


def _point_wise(
    features: keras.KerasTensor, width: int, *, next_seed: NextSeed, name: str
) -> keras.KerasTensor:
    return layers.Conv3D(
        width,
        1,
        kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
        name=name,
    )(features)
