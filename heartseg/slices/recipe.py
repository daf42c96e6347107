"""The preparation of slices for a network: one recipe for training and inference."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.scans.geometry import Plane, SliceGrid, SliceLayout
from heartseg.scans.intensity import apply_window, find_window, to_gray
from heartseg.scans.volume import Volume
from heartseg.slices.neighbours import neighbours, stack_slices

MOST_NEIGHBOURS = 8
"""Largest number of neighbours on either side of a slice."""
MAX_RESAMPLED_SIDE = 8192
"""Largest number of pixels that a side of a slice may have after resampling."""


@dataclass(frozen=True)
class SliceRecipe:
    """How slices are cut, resized and windowed.

    A model file holds its recipe, so that inference prepares slices as training did.

    Attributes:
        plane: Anatomical plane of the slices.
        fit: ``stretch`` to the size, or ``pad`` after resampling to ``spacing_mm``.
        image_height: Height that the network sees.
        image_width: Width that the network sees.
        spacing_mm: Pixel size after resampling, for ``pad``.
        window: ``fixed`` or ``percentile``; see ``intensity.find_window``.
        window_range: Ends of the window.
        image_channels: Channels of the network's input without ``context``; each is a copy of the
            slice.
        context: Neighbours on either side that the network sees as channels.
    """

    plane: str = "sagittal"
    fit: str = "stretch"
    image_height: int = 512
    image_width: int = 512
    spacing_mm: float = 1.0
    window: str = "fixed"
    window_range: tuple[float, float] = (0.0, 1.0)
    image_channels: int = 3
    context: int = 0

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return 2 * self.context + 1 if self.context else self.image_channels

    def to_dict(self) -> dict[str, object]:
        """Return the recipe as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "SliceRecipe":
        """Rebuild a recipe from plain values.

        Raises:
            ValueError: If a key is unknown or a value is invalid.
        """
        try:
            recipe = cls(**values)  # type: ignore[arg-type]
            low, high = recipe.window_range
            recipe = cls(**{**values, "window_range": (float(low), float(high))})  # type: ignore[arg-type]
            Plane(recipe.plane)
            smallest = min(recipe.image_height, recipe.image_width, recipe.image_channels)
            sensible = smallest >= 1 and recipe.spacing_mm > 0 and low < high
            sensible = sensible and 0 <= recipe.context <= MOST_NEIGHBOURS
        except TypeError as error:
            raise ValueError(f"not a slice recipe: {error}") from error
        if recipe.fit not in ("stretch", "pad") or recipe.window not in ("fixed", "percentile"):
            raise ValueError(f"not a slice recipe: fit {recipe.fit!r}, window {recipe.window!r}")
        if not sensible:
            raise ValueError(f"not a slice recipe: {recipe}")
        return recipe

    def grid(self, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> SliceGrid:
        """Place a slice of the scan on the network's grid.

        Args:
            shape: Height and width of the slice.
            spacing_mm: Distance between its rows, and between its columns.

        Raises:
            DataError: If the resampled slice would be too large for the memory.
        """
        network = (self.image_height, self.image_width)
        if self.fit == "stretch":
            # Bilinear even if the slice shrinks, because the published pictures were made so.
            return SliceGrid(shape, network, network)
        height, width = (
            max(1, round(size * spacing / self.spacing_mm))
            for size, spacing in zip(shape, spacing_mm, strict=True)
        )
        if max(height, width) > MAX_RESAMPLED_SIDE:
            raise DataError(
                f"{shape[0]} x {shape[1]} pixels of {spacing_mm[0]:.6g} x {spacing_mm[1]:.6g} mm "
                f"become {height} x {width} pixels of prepare.spacing_mm = {self.spacing_mm:.6g}, "
                f"expected at most {MAX_RESAMPLED_SIDE} per side; choose a larger spacing"
            )
        return SliceGrid(shape, (height, width), network, averages=True)


class PreparedVolume:
    """The slices of one scan as the network sees them, made one at a time.

    Attributes:
        layout: How the slices lie in the volume.
        grid: How each slice lies on the network's grid.
        limits: Intensities that become black and white.
    """

    def __init__(self, image: Volume, recipe: SliceRecipe) -> None:
        self.layout = SliceLayout.from_affine(image.affine, recipe.plane)
        self._slices = self.layout.stack(image.voxels)
        height, width = self._slices.shape[1:]
        self.grid = recipe.grid((height, width), self.layout.spacing_mm(image.affine))
        self.limits = find_window(image.voxels, recipe.window, recipe.window_range)
        self._context = recipe.context

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return slice ``index`` as grey levels of the network's size."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return prepare_slice(self._slices[index], self.grid, self.limits)

    def neighbours(self, index: int) -> list[int]:
        """Return the slices that the network sees with a slice, in its order of channels."""
        return neighbours(index, len(self), self._context, ascending=self.layout.ascending)

    def stacks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each slice with its neighbours: ``(S, H, W)`` grey levels."""
        return stack_slices(
            self.__getitem__, len(self), self._context, ascending=self.layout.ascending
        )


def prepare_slice(
    image: NDArray[np.floating], grid: SliceGrid, limits: tuple[float, float]
) -> NDArray[np.uint8]:
    """Resize and window one slice; all slices for a network are made by this function.

    Args:
        image: ``grid.native_shape`` intensities.
        grid: How the slice lies on the network's grid.
        limits: Intensities that become black and white.

    Returns:
        ``grid.network_shape`` grey levels; padding is black.
    """
    # The window comes first, so that the padding (0) is black whatever the window.
    return to_gray(grid.image_to_network(apply_window(image, limits)))


def to_network_input(slices: NDArray[np.uint8], channels: int) -> NDArray[np.float32]:
    """Turn grey levels into the network's input.

    Args:
        slices: ``(B, H, W)`` grey levels; or ``(B, S, H, W)``, each slice with its neighbours.
        channels: Number of channels: S, or, of a slice alone, any; each is then a copy of it.

    Returns:
        ``(B, H, W, channels)`` float32 in [0, 1].
    """
    stacks = slices if slices.ndim == 4 else slices[:, np.newaxis]
    scaled = np.moveaxis(stacks, 1, -1).astype(np.float32, order="C") / np.float32(255)
    return np.repeat(scaled, channels // stacks.shape[1], axis=-1)
