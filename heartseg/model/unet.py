"""The FlexUNet: built, summarised in text, and drawn."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
from keras import layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from heartseg.files import replacing
from heartseg.model.blocks import conv_block, seed_sequence, upsample
from heartseg.model.plan import check_image_size, plan_levels

OUTPUT_NAME = "probabilities"


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
    seed: int | None = None,
) -> keras.Model:
    """Build a U-Net whose kernels shrink, and whose dropout grows, level by level.

    The defaults are the published FlexUNet's: 124.6 million parameters. It maps images
    ``(B, H, W, image_channels)`` of intensities in [0, 1] to probabilities
    ``(B, H, W, num_classes)``, float32 whatever the precision of the layers before.

    Args:
        image_size: Height and width, multiples of ``2 ** (num_layers - 1)``; ``None`` for a side
            that may vary from batch to batch.
        image_channels: Channels of an image.
        num_classes: Classes, background included.
        base_filters: Filters of the first level, doubled at each level below.
        base_kernels: Kernel of the first level, 2 smaller at each level below, 3 at least.
        num_layers: Levels, the bridge included.
        dropout_rate: Level ``n`` drops ``n * dropout_rate`` between its two convolutions.
        dilation: Dilation of the first level, 1 smaller at each level below, 1 at least.
        normalization: ``none``, ``batch``, ``group`` or ``instance``, between each convolution
            and its activation.
        activation: Name of a Keras activation.
        seed: Makes initial weights and dropout reproducible.

    Raises:
        ValueError: If an option is out of range or the image size does not fit the levels.

    References:
        Ronneberger et al. (2015). U-Net. https://doi.org/10.1007/978-3-319-24574-4_28
    """
    check_image_size(image_size, num_layers)
    *upper, bridge = plan_levels(
        base_filters=base_filters,
        base_kernels=base_kernels,
        num_layers=num_layers,
        dropout_rate=dropout_rate,
        dilation=dilation,
    )
    next_seed = seed_sequence(seed)
    block = partial(
        conv_block, normalization=normalization, activation=activation, next_seed=next_seed
    )

    images = keras.Input((*image_size, image_channels), name="images")
    features = images
    skips = []
    for level in upper:
        features = block(features, level, name=f"encoder_{level.index}")
        skips.append(features)
        features = layers.MaxPooling2D(2, name=f"pool_{level.index}")(features)

    features = block(features, bridge, name="bridge")

    for level in reversed(upper):
        features = upsample(
            features, level.filters, next_seed=next_seed, name=f"upsample_{level.index}"
        )
        features = layers.Concatenate(name=f"skip_{level.index}")([features, skips[level.index]])
        features = block(features, level, name=f"decoder_{level.index}")

    probabilities = layers.Conv2D(
        num_classes,
        1,
        activation="softmax",
        kernel_initializer=keras.initializers.GlorotUniform(seed=next_seed()),
        # float32 keeps the loss stable when the layers above run in mixed precision.
        dtype="float32",
        name=OUTPUT_NAME,
    )(features)
    return keras.Model(images, probabilities, name="flexunet")


def summarize(model: keras.Model) -> str:
    """Return a table of the layers, their output shapes and their parameters."""
    lines: list[str] = []
    model.summary(line_length=100, print_fn=lines.append)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Block:
    """What the diagram shows of one block: its resolution, its side and its convolutions."""

    level: int
    is_decoder: bool
    filters: int
    kernel: tuple[int, int]
    size: str
    has_dropout: bool


def draw_architecture(model: keras.Model, file: Path) -> None:
    """Draw the network as a U, each block with its filters, kernel and feature size.

    Args:
        model: A model of ``build_unet``.
        file: Picture to write; its suffix picks the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        DataError: If the file cannot be written.
        ValueError: If the model has other blocks than ``build_unet`` makes.
    """
    blocks = _blocks(model)
    depth = max(block.level for block in blocks)
    figure = Figure(figsize=(2.6 + 1.5 * depth, 1.8 + 0.8 * depth), layout="constrained")
    axes = figure.add_subplot()
    places = {}
    for block in blocks:
        column = 2 * depth - block.level if block.is_decoder else block.level
        places[block.is_decoder, block.level] = (column, -block.level)
        _draw_block(axes, block, (column, -block.level))
    for level in range(depth):
        left, right = places[False, level], places[True, level]
        below = (places[False, level + 1], places.get((True, level + 1), places[False, depth]))
        _draw_arrow(axes, left, right, color="0.6", label="concatenate" if level == 0 else "")
        _draw_arrow(axes, left, below[0], color="tab:red")
        _draw_arrow(axes, below[1], right, color="tab:green")
    _annotate(axes, model, depth)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120)


def _blocks(model: keras.Model) -> list[_Block]:
    found = []
    for layer in model.layers:
        if not layer.name.endswith("_conv_1"):
            continue
        name = layer.name.removesuffix("_conv_1")
        side, _, index = name.partition("_")
        level = (
            int(index) if index else sum(other.name.startswith("pool_") for other in model.layers)
        )
        height, width = layer.output.shape[1:3]
        found.append(
            _Block(
                level=level,
                is_decoder=side == "decoder",
                filters=layer.filters,
                kernel=layer.kernel_size,
                size=f"{height or 'H'} x {width or 'W'}",
                has_dropout=any(other.name == f"{name}_dropout" for other in model.layers),
            )
        )
    if not found:
        raise ValueError(f"{model.name}: expected blocks as build_unet names them, found none")
    return found


BOX_WIDTH = 0.92
BOX_HEIGHT = 0.62


def _draw_block(axes: Axes, block: _Block, center: tuple[float, float]) -> None:
    x, y = center
    corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
    color = "moccasin" if block.is_decoder else "lightsteelblue"
    axes.add_patch(Rectangle(corner, BOX_WIDTH, BOX_HEIGHT, facecolor=color, edgecolor="0.3"))
    height, width = block.kernel
    dropout = ", dropout" if block.has_dropout else ""
    axes.text(
        x,
        y,
        f"{block.filters} filters\n{height}x{width}{dropout}\n{block.size}",
        ha="center",
        va="center",
        fontsize=7,
    )


def _draw_arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    color: str,
    label: str = "",
) -> None:
    """Connect two boxes, side to side on one level, corner to corner across levels."""
    (x0, y0), (x1, y1) = start, end
    drop = 0.0 if y0 == y1 else BOX_HEIGHT / 2
    reach = BOX_WIDTH / 2 if y0 == y1 else BOX_WIDTH / 4
    tail = (x0 + reach, y0 + drop * (1 if y1 > y0 else -1))
    head = (x1 - reach, y1 - drop * (1 if y1 > y0 else -1))
    axes.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": color})
    if label:
        axes.text((x0 + x1) / 2, y0 + 0.06, label, ha="center", fontsize=7, color="0.4")


def _annotate(axes: Axes, model: keras.Model, depth: int) -> None:
    channels = model.inputs[0].shape[-1]
    classes = model.outputs[0].shape[-1]
    axes.text(-0.5, 0.5, f"image, {channels} channels", ha="left", fontsize=8)
    axes.text(2 * depth + 0.5, 0.5, f"softmax, {classes} classes", ha="right", fontsize=8)
    axes.set_title(
        f"{model.name}: {model.count_params():,} parameters; each block two convolutions",
        fontsize=9,
    )
    axes.plot([], [], color="tab:red", label="max-pooling 2x2")
    axes.plot([], [], color="tab:green", label="transposed convolution 2x2")
    axes.legend(loc="lower left", fontsize=7, frameon=False)
    axes.set_xlim(-0.6, 2 * depth + 0.6)
    axes.set_ylim(-depth - 0.5, 0.8)
    axes.set_axis_off()
