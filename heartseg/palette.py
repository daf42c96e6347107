"""Colours that people tell apart, with and without all three kinds of cones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# sRGB (D65) to CIE XYZ.
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
# What is seen without the cones for long waves (protanopia) and for middle ones (deuteranopia).
_DICHROMATS = (
    np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
)
_LIGHTNESS = (35.0, 90.0)
"""Darker colours vanish on black, lighter ones on white."""
_LEAST_CHROMA, _LEAST_CHROMA_SEEN = 30.0, 8.0
"""Below, a colour is taken for a grey level of the scan; the second with two kinds of cones."""
_GRID_STEP = 15


def distinct_colors(
    count: int, taken: Sequence[tuple[int, int, int]] = ()
) -> list[tuple[int, int, int]]:
    """Choose colours that stay apart for trichromats, protanopes and deuteranopes.

    Each is the one that lies furthest, for whom it lies nearest, from all before it. None is white,
    black or grey.

    Args:
        count: Colours wanted, 0 to 300; the more, the closer they are.
        taken: Colours that they must not resemble.

    Returns:
        ``count`` different colours, red, green and blue from 0 to 255; always the same ones.

    References:
        Machado, Oliveira, Fernandes (2009). IEEE Trans Vis Comput Graph 15(6).
        https://doi.org/10.1109/TVCG.2009.113
    """
    levels = np.arange(0, 256, _GRID_STEP)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    views = _views(grid)
    chroma = np.hypot(views[..., 1], views[..., 2])
    low, high = _LIGHTNESS
    usable = (views[0, :, 0] > low) & (views[0, :, 0] < high)
    usable &= (chroma[0] > _LEAST_CHROMA) & (chroma[1:] > _LEAST_CHROMA_SEEN).all(axis=0)
    grid, views = grid[usable], views[:, usable]
    # Without any colour before it, the first is the most vivid one.
    distance = chroma[0, usable]
    for number, color in enumerate(taken):
        away = _distance(views, _views([color]))
        distance = np.minimum(distance, away) if number else away
    chosen: list[tuple[int, int, int]] = []
    for _ in range(count):
        index = int(distance.argmax())
        red, green, blue = (int(level) for level in grid[index])
        chosen.append((red, green, blue))
        away = _distance(views, views[:, index : index + 1])
        distance = np.minimum(distance, away) if chosen[1:] or taken else away
    return chosen


def _views(colors: ArrayLike) -> NDArray[np.float64]:
    """Return ``(3, N, 3)`` CIE Lab values of ``(N, 3)`` colours, for each kind of eye."""
    levels = np.asarray(colors, np.float64) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear, *(np.clip(linear @ eye.T, 0, 1) for eye in _DICHROMATS)])
    x, y, z = np.moveaxis(np.cbrt(seen @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _distance(views: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each colour lies from another, for the eye that tells them apart least."""
    return np.asarray(np.linalg.norm(views - other, axis=-1).min(axis=0))
