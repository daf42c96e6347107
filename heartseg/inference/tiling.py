"""Slices larger than the network: cut into overlapping tiles, and blended back without seams."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.scans.geometry import SliceGrid


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of one slice lie.

    Attributes:
        tile_shape: Height and width of a tile: what the network sees.
        canvas_shape: Height and width of what the tiles cover; no side is shorter than a tile's.
        corners: Row and column of each tile's upper left pixel, row by row.
    """

    tile_shape: tuple[int, int]
    canvas_shape: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    @classmethod
    def cover(
        cls, canvas_shape: tuple[int, int], tile_shape: tuple[int, int], *, overlap: float
    ) -> "TileGrid":
        """Cover a canvas evenly with as few tiles as this overlap allows.

        Args:
            canvas_shape: Height and width, none shorter than a tile's.
            tile_shape: Height and width of a tile.
            overlap: Least overlap of neighbours, as a fraction of a tile's side, in [0, 1).

        Raises:
            ValueError: If a side of the canvas is shorter than a tile's, or the overlap is out
                of range.
        """
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap: expected a value in [0, 1), got {overlap}")
        rows, cols = (
            _starts(size, tile, overlap)
            for size, tile in zip(canvas_shape, tile_shape, strict=True)
        )
        return cls(tile_shape, canvas_shape, tuple((row, col) for row in rows for col in cols))

    def cut(self, canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the ``(tiles, *tile_shape)`` tiles of a ``canvas_shape`` slice."""
        return np.stack([canvas[self._window(corner)] for corner in self.corners])

    def blend(self, tiles: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Average the probabilities of overlapping tiles; a tile counts least at its border.

        Args:
            tiles: ``(*tile_shape, K)`` probabilities, one array per tile, in the order of ``cut``.

        Returns:
            ``(*canvas_shape, K)`` probabilities.
        """
        height, width = self.tile_shape
        weight = np.outer(_bump(height), _bump(width)).astype(np.float32)[..., np.newaxis]
        total = np.zeros((*self.canvas_shape, tiles[0].shape[-1]), np.float32)
        weights = np.zeros((*self.canvas_shape, 1), np.float32)
        for corner, tile in zip(self.corners, tiles, strict=True):
            window = self._window(corner)
            total[window] += weight * tile
            weights[window] += weight
        total /= weights
        return total

    def _window(self, corner: tuple[int, int]) -> tuple[slice, slice]:
        (row, col), (height, width) = corner, self.tile_shape
        return slice(row, row + height), slice(col, col + width)


def needs_tiles(grid: SliceGrid, *, stretched: bool) -> bool:
    """Decide whether a slice at its own resolution is larger than the network.

    Args:
        grid: How the slice would lie on the network's grid without tiles.
        stretched: Whether it would be stretched to fit; its own resolution is then the scan's,
            otherwise that of the resampled slice.
    """
    own = grid.native_shape if stretched else grid.resized_shape
    return any(size > network for size, network in zip(own, grid.network_shape, strict=True))


def build_canvas(grid: SliceGrid, *, stretched: bool) -> SliceGrid:
    """Place a slice at its own resolution on a canvas that is at least as large as the network.

    Args:
        grid: How the slice would lie on the network's grid without tiles.
        stretched: As in ``needs_tiles``.

    Returns:
        A grid whose ``network_shape`` is the canvas.
    """
    own = grid.native_shape if stretched else grid.resized_shape
    height, width = (
        max(size, network) for size, network in zip(own, grid.network_shape, strict=True)
    )
    return SliceGrid(grid.native_shape, own, (height, width), averages=grid.averages)


def _starts(size: int, tile: int, overlap: float) -> list[int]:
    if size < tile:
        raise ValueError(f"canvas: expected at least the {tile} pixels of a tile, got {size}")
    # Rounding must not add a tile where they fit exactly.
    count = math.ceil((size - tile) / (tile * (1 - overlap)) - 1e-9) + 1
    return [round(start) for start in np.linspace(0, size - tile, count)]


def _bump(size: int) -> NDArray[np.float64]:
    """Return weights that rise smoothly from just above 0 at the border to 1 in the middle."""
    return np.asarray(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2)
