"""From slices and volumes to label maps, with any function that gives probabilities."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.inference.tiling import TileGrid, build_canvas, needs_tiles
from heartseg.progress import Report, silent
from heartseg.scans.geometry import SliceGrid
from heartseg.scans.volume import Volume
from heartseg.slices.neighbours import neighbours
from heartseg.slices.recipe import PreparedVolume, SliceRecipe, prepare_slice, to_network_input

Predict: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``(B, H, W, C)`` images in [0, 1] to ``(B, H, W, K)`` probabilities."""

GRAY_LIMITS = (0.0, 255.0)
"""A picture has been windowed before: its grey levels stay as they are."""


def predict_volume(
    predict: Predict,
    image: Volume,
    recipe: SliceRecipe,
    *,
    num_classes: int,
    batch_size: int = 8,
    tile_overlap: float | None = None,
    report: Report = silent,
) -> NDArray[np.uint8]:
    """Predict the label of every voxel of a scan.

    Only the probabilities of one batch are held at a time; those of each slice are brought back to
    its native grid before the most probable class is chosen.

    Args:
        predict: The network.
        image: The scan, in any orientation.
        recipe: How slices reach the network, as in training.
        num_classes: Classes that the network tells apart, background included.
        batch_size: Slices predicted at once.
        tile_overlap: Cut slices that are larger than the network into tiles with this overlap
            (a fraction of a tile's side); None resizes or crops them as the recipe says.
        report: Called after each slice with (slices done, slices, what was done).

    Returns:
        ``(X, Y, Z)`` labels on the grid of ``image``.

    Raises:
        ModelError: If the network's answer has another shape than expected.
    """
    network = _SliceNetwork(predict, recipe, num_classes, batch_size, tile_overlap)
    prepared = PreparedVolume(image, recipe)
    labels = np.zeros(image.voxels.shape, np.uint8)
    # A view: what is written to a slice is written to the volume.
    label_slices = prepared.layout.stack(labels)
    for index, (grid, probabilities) in enumerate(network.predict_volume(image, prepared)):
        label_slices[index] = _most_probable(grid, probabilities)
        report(index + 1, len(prepared), f"slice {index + 1} of {len(prepared)}")
    return labels


def predict_slices(
    predict: Predict,
    images: Sequence[NDArray[np.uint8]],
    recipe: SliceRecipe,
    *,
    num_classes: int,
    batch_size: int = 8,
    tile_overlap: float | None = None,
    of_one_scan: bool = False,
) -> list[NDArray[np.uint8]]:
    """Predict the labels of pictures, each on its own grid.

    A picture holds grey levels that were windowed before, as ``prepare`` writes them; it has no
    spacing. With ``fit: stretch`` it is resized to the network; with ``fit: pad`` its pixels are
    assumed to be ``recipe.spacing_mm`` wide. A prepared slice reaches the network unchanged. A
    network that sees neighbours sees the picture in their place, unless all are of one scan.

    Args:
        predict: The network.
        images: ``(H, W)`` grey levels; sizes may differ.
        recipe: How slices reach the network; its window is not applied.
        num_classes: Classes that the network tells apart, background included.
        batch_size: Pictures predicted at once.
        tile_overlap: As in ``predict_volume``.
        of_one_scan: Whether the pictures are all slices of one scan, in order, and of one size.

    Returns:
        One ``(H, W)`` label map per picture, in their order.

    Raises:
        DataError: If a picture is too large for the recipe.
        ModelError: If the network's answer has another shape than expected.
    """
    network = _SliceNetwork(predict, recipe, num_classes, batch_size, tile_overlap)
    grids = [lay_picture(image, recipe) for image in images]
    tiled = [index for index, grid in enumerate(grids) if network.needs_tiles(grid)]
    whole = [index for index in range(len(images)) if index not in tiled]

    def see(index: int) -> NDArray[np.float32]:
        if of_one_scan:
            seen = neighbours(index, len(images), recipe.context)
        else:
            seen = [index] * (2 * recipe.context + 1)
        return np.stack([images[place] for place in seen]).astype(np.float32)

    labels = {
        index: _most_probable(*network.predict_tiled(see(index), grids[index], GRAY_LIMITS))
        for index in tiled
    }
    prepared = (
        np.stack([prepare_slice(image, grids[index], GRAY_LIMITS) for image in see(index)])
        for index in whole
    )
    for index, probabilities in zip(whole, network.predict_each(prepared), strict=True):
        labels[index] = _most_probable(grids[index], probabilities)
    return [labels[index] for index in range(len(images))]


def lay_picture(image: NDArray[np.uint8], recipe: SliceRecipe) -> SliceGrid:
    """Place a picture on the network's grid; ``predict_slices`` says how.

    Raises:
        DataError: If the picture is too large for the recipe.
    """
    height, width = image.shape
    return recipe.grid((height, width), (recipe.spacing_mm, recipe.spacing_mm))


@dataclass(frozen=True)
class _SliceNetwork:
    """A network of slices and how it is applied; see ``predict_volume`` for the attributes."""

    predict: Predict
    recipe: SliceRecipe
    num_classes: int
    batch_size: int
    tile_overlap: float | None

    def predict_volume(
        self, image: Volume, prepared: PreparedVolume
    ) -> Iterator[tuple[SliceGrid, NDArray[np.float32]]]:
        """Yield the probabilities of each slice of a scan, and the grid that they are on."""
        if self.needs_tiles(prepared.grid):
            native = prepared.layout.stack(image.voxels)
            for index in range(len(prepared)):
                seen = native[prepared.neighbours(index)]
                yield self.predict_tiled(seen, prepared.grid, prepared.limits)
        else:
            for probabilities in self.predict_each(prepared.stacks()):
                yield prepared.grid, probabilities

    def predict_each(self, stacks: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the ``(H, W, K)`` probabilities of each ``(S, H, W)`` on the network's grid."""
        remaining = iter(stacks)
        while batch := list(islice(remaining, self.batch_size)):
            images = to_network_input(np.stack(batch), self.recipe.channels)
            probabilities = self.predict(images)
            expected = (*images.shape[:3], self.num_classes)
            if probabilities.shape != expected:
                raise ModelError(
                    f"expected probabilities of shape {expected} from the model, "
                    f"got {probabilities.shape}"
                )
            yield from probabilities

    def predict_tiled(
        self, native: NDArray[np.float32], grid: SliceGrid, limits: tuple[float, float]
    ) -> tuple[SliceGrid, NDArray[np.float32]]:
        """Return the canvas of a slice and its blended probabilities there.

        Args:
            native: ``(S, H, W)`` intensities of the slice and its neighbours.
            grid: How the slice lies on the network's grid.
            limits: Intensities that become black and white.
        """
        canvas = build_canvas(grid, stretched=self._is_stretched)
        overlap = 0.0 if self.tile_overlap is None else self.tile_overlap
        tiles = TileGrid.cover(canvas.network_shape, grid.network_shape, overlap=overlap)
        cut = [tiles.cut(prepare_slice(each, canvas, limits)) for each in native]
        parts = self.predict_each(np.stack(cut, axis=1))
        return canvas, tiles.blend(list(parts))

    def needs_tiles(self, grid: SliceGrid) -> bool:
        """Decide whether a slice on this grid is cut into tiles."""
        return self.tile_overlap is not None and needs_tiles(grid, stretched=self._is_stretched)

    @property
    def _is_stretched(self) -> bool:
        return self.recipe.fit == "stretch"


def _most_probable(grid: SliceGrid, probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    native = grid.probabilities_to_native(probabilities)
    return np.asarray(np.argmax(native, axis=-1), np.uint8)
