"""Label maps on another grid, by nearest neighbour only."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_Label = TypeVar("_Label", bound=np.integer)


def resize_labels(labels: NDArray[_Label], shape: tuple[int, ...]) -> NDArray[_Label]:
    """Resample labels to another shape over the same box, by nearest neighbour.

    Each new voxel takes the label at its centre. The arithmetic uses whole numbers only, so that
    no rounding moves a label: OpenCV's resizing is off by one voxel at some sizes.

    Args:
        labels: Label map with any number of axes.
        shape: The new shape, with as many axes.

    Returns:
        A new array of ``shape``, in C order.
    """
    # The centre of voxel i of n is at (2 i + 1) / 2n of the side; of two equally near voxels the
    # later one is taken.
    for axis, (new, old) in enumerate(zip(shape, labels.shape, strict=True)):
        if new != old:
            labels = labels.take((2 * np.arange(new) + 1) * old // (2 * new), axis=axis)
    return np.array(labels, order="C")


def resample_labels(
    labels: NDArray[_Label],
    affine: NDArray[np.float64],
    *,
    to_affine: NDArray[np.float64],
    shape: tuple[int, ...],
) -> NDArray[_Label]:
    """Resample labels to any other grid; each new voxel takes the label at its centre.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from its voxel indices to millimetres.
        to_affine: The affine of the new grid.
        shape: The shape of the new grid.

    Returns:
        ``shape`` labels; background (0) where the label map does not reach.
    """
    to_labels = np.linalg.inv(affine) @ to_affine
    resampled: NDArray[_Label] = ndimage.affine_transform(
        labels,
        to_labels[:3, :3],
        offset=to_labels[:3, 3],
        output_shape=shape,
        order=0,
        # The volume reaches half a voxel beyond the outermost centres.
        mode="grid-constant",
        cval=0,
    )
    return resampled
