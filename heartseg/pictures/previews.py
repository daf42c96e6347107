"""Previews of a segmented scan: slices in grey with coloured labels, in their true proportions."""

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import LabelTable
from heartseg.opencv import cv2
from heartseg.pictures.overlays import overlay_slices
from heartseg.pictures.sheets import SHEET_TILE, contact_sheet, evenly_spaced
from heartseg.scans.geometry import Plane, SliceLayout
from heartseg.scans.volume import Volume


def to_true_aspect(
    picture: NDArray[np.uint8], spacing_mm: tuple[float, float], *, longest_side: int
) -> NDArray[np.uint8]:
    """Resize a slice so that its pixels are square.

    Args:
        picture: ``(H, W, 3)`` RGB.
        spacing_mm: Distance between its rows, and between its columns.
        longest_side: Pixels along the longer side of the result.
    """
    extents = [size * spacing for size, spacing in zip(picture.shape[:2], spacing_mm, strict=True)]
    height, width = (max(1, round(extent * longest_side / max(extents))) for extent in extents)
    shrinks = height < picture.shape[0] and width < picture.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation))


def preview_sheet(
    image: Volume,
    labels: NDArray[np.uint8],
    table: LabelTable,
    *,
    plane: Plane | str,
    limits: tuple[float, float],
    num_slices: int = 24,
    columns: int = 6,
) -> NDArray[np.uint8]:
    """Arrange evenly spaced slices with their labels on a sheet, in their true proportions.

    Args:
        image: The scan.
        labels: ``(X, Y, Z)`` label map on its grid.
        table: The colours.
        plane: Anatomical plane of the slices.
        limits: Intensities that become black and white.
        num_slices: Largest number of slices.
        columns: Slices per row.

    Returns:
        ``(rows * SHEET_TILE, columns * SHEET_TILE, 3)`` uint8 RGB.
    """
    layout = SliceLayout.from_affine(image.affine, plane)
    indices = evenly_spaced(image.voxels.shape[layout.slice_axis], num_slices)
    spacing_mm = layout.spacing_mm(image.affine)
    pictures = overlay_slices(image, labels, table, plane=plane, limits=limits, indices=indices)
    tiles = [to_true_aspect(p, spacing_mm, longest_side=SHEET_TILE) for p in pictures]
    return contact_sheet(tiles, columns=columns)
