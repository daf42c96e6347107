"""The axes that the whole-heart network expects: toward posterior, inferior and right."""

from typing import TypeVar

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from heartseg.scans.volume import spacing_of

TRAINED_AXES = ("P", "I", "R")
"""Directions in which the axes of the network's volumes run, as in the training data."""
_Voxel = TypeVar("_Voxel", bound=np.generic)


def to_trained_axes(voxels: NDArray[_Voxel], affine: NDArray[np.float64]) -> NDArray[_Voxel]:
    """Return a view of a volume whose axes run toward posterior, inferior and right.

    Args:
        voxels: ``(X, Y, Z)`` array.
        affine: ``(4, 4)`` from its voxel indices to millimetres.
    """
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(TRAINED_AXES))
    turned: NDArray[_Voxel] = apply_orientation(voxels, turn)
    return turned


def from_trained_axes(voxels: NDArray[_Voxel], affine: NDArray[np.float64]) -> NDArray[_Voxel]:
    """Undo ``to_trained_axes``.

    Args:
        voxels: What ``to_trained_axes`` returned for a scan, or an array of that shape.
        affine: ``(4, 4)`` affine of the scan.

    Returns:
        ``(X, Y, Z)`` array in C order.
    """
    turn = ornt_transform(axcodes2ornt(TRAINED_AXES), io_orientation(affine))
    turned: NDArray[_Voxel] = apply_orientation(voxels, turn)
    return np.ascontiguousarray(turned)


def find_trained_axes(affine: NDArray[np.float64]) -> list[tuple[int, bool]]:
    """Return for each axis of a scan which trained axis it is, and whether it runs backwards.

    Args:
        affine: ``(4, 4)`` from the scan's voxel indices to millimetres.
    """
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(TRAINED_AXES))
    return [(int(axis), bool(direction < 0)) for axis, direction in turn]


def trained_spacing_mm(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the voxel size in mm along the axes that ``to_trained_axes`` gives a volume."""
    axes = io_orientation(affine)[:, 0].astype(int)
    # Posterior, inferior and right run along the second, third and first world axis.
    posterior, inferior, right = (
        float(spacing_of(affine)[int(np.flatnonzero(axes == world)[0])]) for world in (1, 2, 0)
    )
    return posterior, inferior, right
