"""The FlexUNet, a U-Net for slices, and its summary in text."""

from collections.abc import Callable, Sequence
from functools import partial

import keras
from keras import layers

from heartseg.networks.blocks import NextSeed, attend, conv_block, seed_sequence, upsample
from heartseg.networks.plan import Level, check_image_size, plan_levels

OUTPUT_NAME = "probabilities"
Block = Callable[..., keras.KerasTensor]
"""``conv_block`` with the options that all levels share."""


def build_unet(
    *,
    image_size: tuple[int | None, int | None],
    image_channels: int = 3,
    num_classes: int = 9,
    base_filters: int = 16,
    base_kernels: tuple[int, int] = (7, 7),
    num_layers: int = 8,
    dropout_rate: float = 0.04,
    dilation: tuple[int, int] = (1, 1),
    normalization: str = "none",
    activation: str = "relu",
    attention: bool = False,
    block: str = "plain",
    seed: int | None = None,
) -> keras.Model:
    """Build a U-Net whose kernels shrink and whose dropout grows from level to level.

    The defaults are those of the published FlexUNet: 124.6 million parameters. It maps images
    ``(B, H, W, image_channels)`` of intensities in [0, 1] to probabilities
    ``(B, H, W, num_classes)``, which are float32 whatever the precision of the other layers.

    Args:
        image_size: Height and width, multiples of ``2 ** (num_layers - 1)``; ``None`` for a side
            that may differ between batches.
        image_channels: Channels of an image.
        num_classes: Classes, background included.
        base_filters: Filters of the first level, doubled at each further level.
        base_kernels: Kernel of the first level, 2 smaller at each further level, at least 3.
        num_layers: Levels, the bridge included.
        dropout_rate: Level ``n`` has a dropout of ``n * dropout_rate`` between its convolutions.
        dilation: Dilation of the first level, 1 smaller at each further level, at least 1.
        normalization: ``none``, ``batch``, ``group`` or ``instance``, between each convolution
            and its activation.
        activation: Name of a Keras activation.
        attention: Whether skip connections pass through attention gates.
        block: ``plain`` or ``residual``.
        seed: Makes initial weights and dropout reproducible.

    Raises:
        ValueError: If an option is out of range or the image size does not fit the levels.

    References:
        Ronneberger et al. (2015). U-Net. https://doi.org/10.1007/978-3-319-24574-4_28
    """
    check_image_size(image_size, num_layers)
    if block not in ("plain", "residual"):
        raise ValueError(f"block: expected plain or residual, got {block!r}")
    *upper, bridge = plan_levels(
        base_filters=base_filters,
        base_kernels=base_kernels,
        num_layers=num_layers,
        dropout_rate=dropout_rate,
        dilation=dilation,
    )
    next_seed = seed_sequence(seed)
    build_block = partial(
        conv_block,
        normalization=normalization,
        activation=activation,
        next_seed=next_seed,
        residual=block == "residual",
    )
    images = keras.Input((*image_size, image_channels), name="images")
    features, skips = _encode(images, upper, build_block)
    features = build_block(features, bridge, name="bridge")
    features = _decode(features, skips, upper, build_block, next_seed, attention=attention)
    return keras.Model(images, _classify(features, num_classes, next_seed), name="flexunet")


def _encode(
    features: keras.KerasTensor, levels: Sequence[Level], block: Block
) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return the features for the bridge, and those of each level for its skip connection."""
    skips = []
    for level in levels:
        features = block(features, level, name=f"encoder_{level.index}")
        skips.append(features)
        features = layers.MaxPooling2D(2, name=f"pool_{level.index}")(features)
    return features, skips


def _decode(
    features: keras.KerasTensor,
    skips: Sequence[keras.KerasTensor],
    levels: Sequence[Level],
    block: Block,
    next_seed: NextSeed,
    *,
    attention: bool,
) -> keras.KerasTensor:
    """Bring the features of the bridge back to full resolution, level by level."""
    for level in reversed(levels):
        features = upsample(
            features, level.filters, next_seed=next_seed, name=f"upsample_{level.index}"
        )
        skip = skips[level.index]
        if attention:
            skip = attend(skip, features, next_seed=next_seed, name=f"attention_{level.index}")
        features = layers.Concatenate(name=f"skip_{level.index}")([features, skip])
        features = block(features, level, name=f"decoder_{level.index}")
    return features


def _classify(
    features: keras.KerasTensor, num_classes: int, next_seed: NextSeed
) -> keras.KerasTensor:
    return layers.Conv2D(
        num_classes,
        1,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
        # float32 keeps the loss stable when the layers above run in mixed precision.
        dtype="float32",
        name=OUTPUT_NAME,
    )(features)


def summarize(model: keras.Model) -> str:
    """Return a table of the layers, their output shapes and their parameters."""
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lines.append)
    return "\n".join(lines) + "\n"
