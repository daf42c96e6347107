"""The geometry of slices: their layout in a volume, and the way to the network's grid and back."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from heartseg.opencv import cv2
from heartseg.scans.nearest import resize_labels
from heartseg.scans.volume import spacing_of


class Plane(str, Enum):
    """An anatomical plane."""

    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    AXIAL = "axial"


# The world axes (0 right, 1 anterior, 2 superior) of each plane's stack, rows and columns. The sign
# is the direction in which rows run down and columns run to the right. A sagittal slice has
# superior at the top and anterior on the right. Axial slices are seen from the patient's feet and
# coronal ones from the front, which is the radiological convention.
_DIRECTIONS = {
    Plane.SAGITTAL: (0, (2, -1), (1, +1)),
    Plane.CORONAL: (1, (2, -1), (0, -1)),
    Plane.AXIAL: (2, (1, -1), (0, -1)),
}


@dataclass(frozen=True)
class SliceLayout:
    """How the slices of one plane lie in a volume's array.

    Attributes:
        slice_axis: Array axis that slices are stacked along.
        row_axis: Array axis that becomes the rows.
        col_axis: Array axis that becomes the columns.
        flip_rows: Whether row 0 is the last index of its axis.
        flip_cols: Whether column 0 is the last index of its axis.
        ascending: Whether slices are stacked toward right, anterior or superior.
    """

    slice_axis: int
    row_axis: int
    col_axis: int
    flip_rows: bool
    flip_cols: bool
    ascending: bool = True

    @classmethod
    def from_affine(cls, affine: NDArray[np.float64], plane: Plane | str) -> "SliceLayout":
        """Find the layout of a plane; of an oblique volume, along the nearest array axes.

        Args:
            affine: ``(4, 4)`` from voxel indices to millimetres, not singular.
            plane: The anatomical plane.
        """
        # Row i: the world axis nearest to array axis i, and the sign of its direction.
        orientation = io_orientation(affine)
        world_axes = [int(axis) for axis in orientation[:, 0]]
        stack, (row_world, row_sign), (col_world, col_sign) = _DIRECTIONS[Plane(plane)]
        row_axis, col_axis = world_axes.index(row_world), world_axes.index(col_world)
        slice_axis = world_axes.index(stack)
        return cls(
            slice_axis=slice_axis,
            row_axis=row_axis,
            col_axis=col_axis,
            flip_rows=bool(orientation[row_axis, 1] != row_sign),
            flip_cols=bool(orientation[col_axis, 1] != col_sign),
            ascending=bool(orientation[slice_axis, 1] > 0),
        )

    def stack(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """View a volume as its slices.

        Args:
            voxels: ``(X, Y, Z)`` array.

        Returns:
            ``(slices, H, W)`` view: writing to it changes the volume.
        """
        slices = voxels.transpose(self.slice_axis, self.row_axis, self.col_axis)
        step_rows, step_cols = -1 if self.flip_rows else 1, -1 if self.flip_cols else 1
        return slices[:, ::step_rows, ::step_cols]

    def spacing_mm(self, affine: NDArray[np.float64]) -> tuple[float, float]:
        """Return the distance in mm between neighbouring rows, and between neighbouring columns."""
        spacing = spacing_of(affine)
        return float(spacing[self.row_axis]), float(spacing[self.col_axis])


@dataclass(frozen=True)
class SliceGrid:
    """How a slice of the scan lies on the network's grid.

    The slice is resized to ``resized_shape``, then padded or cropped around its centre to
    ``network_shape``. Pixel centres are aligned in both directions.

    Attributes:
        native_shape: Height and width of the slice in the scan.
        resized_shape: Height and width after resampling.
        network_shape: Height and width that the network sees.
        averages: Whether pixels are averaged, rather than sampled, when an image shrinks.
    """

    native_shape: tuple[int, int]
    resized_shape: tuple[int, int]
    network_shape: tuple[int, int]
    averages: bool = False

    def image_to_network(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize intensities bilinearly, or by averaging if ``averages`` is set; pad with 0.

        Args:
            image: ``native_shape`` intensities.

        Returns:
            ``network_shape`` intensities.
        """
        resized = _resize(image, self.resized_shape, self._image_interpolation)
        return self._place(resized)

    def labels_to_network(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize labels by nearest neighbour; pad with background."""
        return self._place(resize_labels(labels, self.resized_shape))

    def labels_to_native(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring ``network_shape`` labels back by nearest neighbour; background where cropped."""
        return resize_labels(self._unplace(labels), self.native_shape)

    def probabilities_to_native(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring ``(*network_shape, K)`` probabilities back bilinearly.

        Where the network's grid does not cover the slice, the background (class 0) has
        probability 1.

        Returns:
            ``(*native_shape, K)`` probabilities.
        """
        return _resize(
            self._unplace(probabilities, background=True), self.native_shape, cv2.INTER_LINEAR
        )

    @property
    def _image_interpolation(self) -> int:
        shrinks = all(
            new < old for new, old in zip(self.resized_shape, self.native_shape, strict=True)
        )
        return int(cv2.INTER_AREA if shrinks and self.averages else cv2.INTER_LINEAR)

    def _windows(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the overlap of the resized slice and the network's grid, as indices of each."""
        inner, outer = [], []
        for resized, network in zip(self.resized_shape, self.network_shape, strict=True):
            shared = min(resized, network)
            inner.append(slice((resized - shared) // 2, (resized - shared) // 2 + shared))
            outer.append(slice((network - shared) // 2, (network - shared) // 2 + shared))
        return (inner[0], inner[1]), (outer[0], outer[1])

    def _place(self, resized: NDArray[Any]) -> NDArray[Any]:
        if self.resized_shape == self.network_shape:
            return resized
        inner, outer = self._windows()
        placed = np.zeros((*self.network_shape, *resized.shape[2:]), resized.dtype)
        placed[outer] = resized[inner]
        return placed

    def _unplace(self, placed: NDArray[Any], *, background: bool = False) -> NDArray[Any]:
        if self.resized_shape == self.network_shape:
            return placed
        inner, outer = self._windows()
        resized = np.zeros((*self.resized_shape, *placed.shape[2:]), placed.dtype)
        if background:
            resized[..., 0] = 1
        resized[inner] = placed[outer]
        return resized


def _resize(array: NDArray[Any], shape: tuple[int, int], interpolation: int) -> NDArray[Any]:
    if array.shape[:2] == shape:
        return array
    height, width = shape
    return np.asarray(
        cv2.resize(np.ascontiguousarray(array), (width, height), interpolation=interpolation)
    )
