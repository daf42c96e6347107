"""The plan of a U-Net: the options of each level, and the number of weights.

Plain arithmetic: this module does not import Keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass

CONVS_PER_LEVEL = 2


@dataclass(frozen=True)
class Level:
    """One resolution of the network; its encoder and decoder blocks have the same options.

    Attributes:
        index: 0 at full resolution; each further level halves height and width.
        filters: Channels of both convolutions.
        kernel: Kernel height and width.
        dilation: Dilation along height and width.
        dropout: Rate of the dropout between the two convolutions.
    """

    index: int
    filters: int
    kernel: tuple[int, int]
    dilation: tuple[int, int]
    dropout: float


def plan_levels(
    *,
    base_filters: int = 16,
    base_kernels: Sequence[int] = (7, 7),
    num_layers: int = 8,
    dropout_rate: float = 0.04,
    dilation: Sequence[int] = (1, 1),
) -> tuple[Level, ...]:
    """Plan the levels of a FlexUNet, from full resolution down to the bridge.

    At each level, filters double, kernels shrink by 2 until they are 3, dilations shrink by 1 until
    they are 1, and dropout grows in proportion to the index of the level.

    Raises:
        ValueError: If an option is out of its range.
    """
    if num_layers < 2:
        raise ValueError(f"num_layers: expected at least 2, got {num_layers}")
    if base_filters < 1:
        raise ValueError(f"base_filters: expected at least 1, got {base_filters}")
    for key, pair in (("base_kernels", base_kernels), ("dilation", dilation)):
        if len(pair) != 2 or min(pair) < 1:
            raise ValueError(f"{key}: expected two positive integers, got {tuple(pair)}")
    if not 0 <= dropout_rate * (num_layers - 1) < 1:
        raise ValueError(
            f"dropout_rate: expected 0 <= rate < 1/{num_layers - 1}, since level {num_layers - 1} "
            f"has {num_layers - 1} times the dropout of level 1, got {dropout_rate}"
        )
    return tuple(
        Level(
            index=index,
            filters=base_filters * 2**index,
            kernel=(_shrink(base_kernels[0], index), _shrink(base_kernels[1], index)),
            dilation=(max(dilation[0] - index, 1), max(dilation[1] - index, 1)),
            dropout=dropout_rate * index,
        )
        for index in range(num_layers)
    )


def _shrink(size: int, index: int) -> int:
    return max(size - 2 * index, 3) if index else size


def check_image_size(image_size: tuple[int | None, int | None], num_layers: int) -> None:
    """Check that both sides can be halved once for each level except the first.

    Args:
        image_size: Height and width; ``None`` for a side that is known only when the network is
            called.
        num_layers: Levels of the network.

    Raises:
        ValueError: If a side is too small or not a multiple of the total stride.
    """
    stride = 2 ** (num_layers - 1)
    for key, size in zip(("image_height", "image_width"), image_size, strict=True):
        if size is not None and (size < stride or size % stride):
            raise ValueError(
                f"{key}: expected a multiple of {stride} (num_layers = {num_layers} halves the "
                f"image {num_layers - 1} times), got {size}"
            )


def attention_filters(filters: int) -> int:
    """Return the channels in which an attention gate compares features of so many channels."""
    return max(1, filters // 2)


def count_parameters(
    levels: Sequence[Level],
    *,
    image_channels: int,
    num_classes: int,
    normalized: bool = False,
    attention: bool = False,
    residual: bool = False,
) -> int:
    """Count the trainable weights of the network with these levels."""
    # With normalisation, a convolution has a scale and an offset in place of its bias.
    offsets = 2 if normalized else 1

    def block(inputs: int, level: Level) -> int:
        height, width = level.kernel
        weights = height * width * (inputs + level.filters) + CONVS_PER_LEVEL * offsets
        if residual and inputs != level.filters:
            weights += inputs + offsets
        return weights * level.filters

    def gate(filters: int) -> int:
        hidden = attention_filters(filters)
        return 2 * (filters + 1) * hidden + hidden + 1

    inputs = [image_channels, *(level.filters for level in levels)]
    encoder = sum(block(inputs[level.index], level) for level in levels)
    # A decoder block reads the skip connection and as many upsampled channels.
    decoder = sum(block(2 * level.filters, level) for level in levels[:-1])
    upsampling = sum((4 * 2 * level.filters + 1) * level.filters for level in levels[:-1])
    gates = sum(gate(level.filters) for level in levels[:-1]) if attention else 0
    return encoder + decoder + upsampling + gates + (levels[0].filters + 1) * num_classes
