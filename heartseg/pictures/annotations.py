"""What is written on pictures: the patient's sides, a scale bar, captions, a legend."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from heartseg.labels import LabelTable, Structure

TEXT, HALO, FAINT = (255, 255, 255), (0, 0, 0), (150, 158, 168)
STRIP = (24, 28, 33)
_SCALES = (1.0, 2.0, 5.0)
_BAR_SHARE = 1 / 3
"""What a scale bar takes of the width, at most."""


def annotate(
    picture: NDArray[np.uint8],
    *,
    marks: tuple[str, str, str, str] = ("", "", "", ""),
    step_mm: float | None = None,
    caption: str = "",
    size: int = 13,
) -> NDArray[np.uint8]:
    """Write on a slice.

    Args:
        picture: ``(H, W, 3)`` RGB.
        marks: What stands at its top, bottom, left and right.
        step_mm: Side of a pixel, for a scale bar; None: no bar.
        caption: What stands in the upper left corner.
        size: Height of the letters in pixels.

    Returns:
        A new picture of the same shape.
    """
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), _font(size)

    def write(place: tuple[float, float], text: str, anchor: str) -> None:
        draw.text(place, text, TEXT, font, anchor, stroke_width=2, stroke_fill=HALO)

    height, width = picture.shape[:2]
    pad = size // 2
    places = (
        ((width / 2, pad), "ma"),
        ((width / 2, height - pad), "md"),
        ((pad, height / 2), "lm"),
        ((width - pad, height / 2), "rm"),
    )
    for mark, (place, anchor) in zip(marks, places, strict=True):
        write(place, mark, anchor)
    if caption:
        write((pad, pad), caption, "la")
    if step_mm is not None:
        length_mm = bar_length_mm(width * step_mm)
        right, bottom = width - pad, height - pad
        left = right - length_mm / step_mm
        draw.rectangle((left - 1, bottom - 4, right + 1, bottom), fill=HALO)
        draw.rectangle((left, bottom - 3, right, bottom - 1), fill=TEXT)
        write(((left + right) / 2, bottom - 6), f"{length_mm:g} mm", "md")
    return np.asarray(image)


def bar_length_mm(width_mm: float) -> float:
    """Return the longest round length (1, 2, 5, 10, ...) that fits a third of a picture."""
    longest = width_mm * _BAR_SHARE
    power = 10.0 ** math.floor(math.log10(longest))
    return max(scale * power for scale in _SCALES if scale * power <= longest * (1 + 1e-9))


def draw_legend(
    table: LabelTable,
    present: NDArray[np.bool_],
    *,
    width: int,
    names: bool = True,
    size: int = 14,
    structures: Sequence[Structure] | None = None,
) -> NDArray[np.uint8]:
    """Draw the colours of the structures and their names; a structure that is absent is faint.

    Args:
        table: The structures.
        present: ``(num_classes,)`` which labels occur.
        width: Of the strip, in pixels.
        names: Whether names stand beside the keys; without them absent structures are left out.
        size: Height of the letters in pixels.
        structures: The structures that are listed; None: all of the table.

    Returns:
        ``(H, width, 3)`` RGB, as high as the names need.
    """
    font, pad, swatch = _font(size), size, size
    entries = [
        (s, f"{s.key} {s.name}{'' if present[s.value] else ' (absent)'}" if names else s.key)
        for s in structures or table.foreground
        if names or present[s.value]
    ]
    if not entries:
        return np.zeros((0, width, 3), np.uint8)
    cell = 3 * pad + swatch + max(math.ceil(font.getlength(text)) for _, text in entries)
    columns = max(1, min(len(entries), (width - pad) // cell))
    rows, line = -(-len(entries) // columns), size + pad // 2 + 2
    image = Image.new("RGB", (width, rows * line + pad), STRIP)
    draw, spread = ImageDraw.Draw(image), (width - pad) / columns
    for position, (structure, text) in enumerate(entries):
        row, column = divmod(position, columns)
        x, y = pad + column * spread, pad / 2 + (row + 0.5) * line
        box = (x, y - swatch / 2, x + swatch, y + swatch / 2)
        color, there = table.display_color(structure), bool(present[structure.value])
        draw.rectangle(box, fill=color if there else None, outline=color)
        draw.text(
            (x + swatch + pad / 2, y), text, anchor="lm", fill=TEXT if there else FAINT, font=font
        )
    return np.asarray(image)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
