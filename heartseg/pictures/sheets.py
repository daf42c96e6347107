"""Sheets of many slices."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heartseg.opencv import cv2

SHEET_TILE = 160
"""Side of a slice on a sheet, in pixels."""


def contact_sheet(
    tiles: Sequence[NDArray[np.uint8]], *, columns: int, tile: int = SHEET_TILE
) -> NDArray[np.uint8]:
    """Arrange slices on a sheet, row by row, each fitted into a square.

    Args:
        tiles: ``(H, W, 3)`` or ``(H, W)`` pictures. They are resized by nearest neighbour, so that
            the colours of a mask are not mixed.
        columns: Squares per row.
        tile: Side of a square in pixels.

    Returns:
        ``(rows * tile, columns * tile, 3)`` uint8 RGB, black between the pictures.
    """
    rows = -(-len(tiles) // columns)
    sheet = np.zeros((max(rows, 1) * tile, columns * tile, 3), np.uint8)
    for position, picture in enumerate(tiles):
        colored = picture if picture.ndim == 3 else np.repeat(picture[..., np.newaxis], 3, -1)
        scale = tile / max(colored.shape[:2])
        height, width = (max(1, round(side * scale)) for side in colored.shape[:2])
        small = cv2.resize(colored, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        row, column = divmod(position, columns)
        top, left = row * tile + (tile - height) // 2, column * tile + (tile - width) // 2
        sheet[top : top + height, left : left + width] = small
    return sheet


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Return up to ``wanted`` different indices below ``count``, evenly spaced."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(wanted, count)).round()})
