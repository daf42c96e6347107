"""The diagram of a U-Net for slices: blocks in the form of a U."""

from dataclasses import dataclass
from pathlib import Path

import keras
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from heartseg.files import replacing

BOX_WIDTH = 0.92
BOX_HEIGHT = 0.62


@dataclass(frozen=True)
class _Block:
    """One block of the diagram: its level, its side and its convolutions."""

    level: int
    is_decoder: bool
    filters: int
    kernel: tuple[int, int]
    size: str
    has_dropout: bool


def draw_architecture(model: keras.Model, file: Path) -> None:
    """Draw the network as a U; each block shows its filters, kernel and feature size.

    Args:
        model: A model of ``build_unet``.
        file: Picture to write; its suffix sets the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        DataError: If the file cannot be written.
        ValueError: If the model has no blocks with the names of ``build_unet``.
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
        raise ValueError(f"{model.name}: expected blocks with the names of build_unet, found none")
    return found


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
    plural = "" if channels == 1 else "s"
    axes.text(-0.5, 0.5, f"image, {channels} channel{plural}", ha="left", fontsize=8)
    axes.text(2 * depth + 0.5, 0.5, f"softmax, {classes} classes", ha="right", fontsize=8)
    axes.set_title(
        f"{model.name}: {model.count_params():,} parameters; two convolutions per block",
        fontsize=9,
    )
    axes.plot([], [], color="tab:red", label="max-pooling 2x2")
    axes.plot([], [], color="tab:green", label="transposed convolution 2x2")
    axes.legend(loc="lower left", fontsize=7, frameon=False)
    axes.set_xlim(-0.6, 2 * depth + 0.6)
    axes.set_ylim(-depth - 0.5, 0.8)
    axes.set_axis_off()
