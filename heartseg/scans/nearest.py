"""Labels on another grid, by nearest neighbour and by nothing else."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_Label = TypeVar("_Label", bound=np.integer)


def resize_labels(labels: NDArray[_Label], shape: tuple[int, ...]) -> NDArray[_Label]:
    """Bring labels onto a grid of another shape over the same box: the label at each centre.

    Whole numbers only, so that no rounding moves a label: OpenCV's resizing is off by one at some
    sizes.

    Args:
        labels: Label map of any number of axes.
        shape: The wanted shape, of as many axes.

    Returns:
        A new array of ``shape``, in C order.
    """
    # The centre of voxel i of n is at (2 i + 1) / 2n of the side; a tie takes the later voxel.
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
    """Bring labels onto any other grid, each voxel with the label at its centre.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from its voxel indices to millimetres.
        to_affine: The affine of the wanted grid.
        shape: The shape of the wanted grid.

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
        # Up to half a voxel beyond the outermost centres is still inside the volume.
        mode="grid-constant",
        cval=0,
    )
    return resampled
