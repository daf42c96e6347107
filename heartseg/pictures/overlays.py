"""Labels drawn in colour over grey slices."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import LabelTable
from heartseg.opencv import cv2
from heartseg.scans.geometry import Plane, SliceLayout
from heartseg.scans.intensity import apply_window, to_gray
from heartseg.scans.volume import Volume


def overlay(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], table: LabelTable, *, opacity: float = 0.45
) -> NDArray[np.uint8]:
    """Draw labels over the slice that they describe.

    Args:
        image: ``(H, W)`` grey levels.
        labels: ``(H, W)`` labels; background pixels show the image.
        table: The display colours.
        opacity: 0 shows the image alone, 1 the colours alone.

    Returns:
        ``(H, W, 3)`` RGB.
    """
    # OpenCV mixes bytes ten times as fast as NumPy mixes floats.
    drawn = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(drawn, 1 - opacity, table.display(labels), opacity, 0)
    cv2.copyTo(mixed, (labels > 0).astype(np.uint8), drawn)
    return np.asarray(drawn)


def overlay_slices(
    image: Volume,
    labels: NDArray[np.uint8],
    table: LabelTable,
    *,
    plane: Plane | str,
    limits: tuple[float, float],
    indices: Sequence[int] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Draw labels over the slices of a scan, one slice at a time.

    Args:
        image: The scan.
        labels: ``(X, Y, Z)`` label map on its grid.
        table: The display colours.
        plane: Anatomical plane of the slices.
        limits: Intensities that become black and white.
        indices: Indices of the slices; None for all.

    Yields:
        ``(H, W, 3)`` uint8 RGB with one pixel per voxel.
    """
    layout = SliceLayout.from_affine(image.affine, plane)
    image_slices, label_slices = layout.stack(image.voxels), layout.stack(labels)
    for index in range(len(image_slices)) if indices is None else indices:
        gray = to_gray(apply_window(image_slices[index], limits))
        yield overlay(gray, label_slices[index], table)
