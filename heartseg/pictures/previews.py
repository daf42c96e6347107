"""Slices of a scan as people look at them: in grey, with labels over them, in true proportion."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import LabelTable, Structure
from heartseg.opencv import cv2
from heartseg.pictures.annotations import annotate, draw_legend
from heartseg.pictures.framing import (
    HeartBox,
    find_heart,
    frame_slice,
    see_image,
    see_labels,
    side_marks,
    world_axes,
)
from heartseg.pictures.overlays import overlay
from heartseg.scans.geometry import Plane
from heartseg.scans.intensity import apply_window, to_gray
from heartseg.scans.volume import Volume

SHEET_WIDTH = 1260
PLANES_HEIGHT, TILES_HEIGHT = 560, 280
"""What the rows of a preview take, at most."""
GAP = 6
NUM_TILES = 6
VIEWS = (Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL)
TINT = 0.35
"""Opacity of a structure inside its border: the scan must show through."""
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def to_true_aspect(
    picture: NDArray[np.uint8], spacing_mm: tuple[float, float], *, longest_side: int
) -> NDArray[np.uint8]:
    """Resize a slice so that its pixels are square.

    Args:
        picture: ``(H, W, 3)`` RGB.
        spacing_mm: Distance of its rows and of its columns.
        longest_side: Pixels of the longer side of the result.
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
    structures: Sequence[Structure] | None = None,
) -> NDArray[np.uint8]:
    """Show a heart: three planes through its centre, and six slices from end to end.

    All are cropped to the heart and lie along the patient's axes in true proportion, whatever the
    scan's own axes and voxels are; sides, a scale bar and a legend are drawn.

    Args:
        image: The scan.
        labels: ``(X, Y, Z)`` label map on its grid.
        table: The display colours.
        plane: Anatomical plane of the six slices.
        limits: Intensities that become black and white.
        structures: The structures that the legend lists; None: all of the table.

    Returns:
        ``(H, SHEET_WIDTH, 3)`` RGB; ``H`` depends on the length of the legend.
    """
    box = find_heart(labels, image.affine)

    def tile(plane: Plane | str, at_mm: float, step_mm: float, size: int) -> NDArray[np.uint8]:
        gray, seen = _cut(image, labels, box, plane, at_mm, step_mm, limits)
        drawn = _outline(gray, seen, table)
        return annotate(drawn, marks=side_marks(plane), step_mm=step_mm, size=size)

    step_mm = _largest_step(box, VIEWS, PLANES_HEIGHT)
    planes = [tile(view, float(box.center_mm[world_axes(view)[0]]), step_mm, 17) for view in VIEWS]
    axis = world_axes(plane)[0]
    shares = (np.arange(NUM_TILES) + 0.5) / NUM_TILES
    low_mm, high_mm = box.heart_mm[:, axis]
    places_mm = low_mm + shares * (high_mm - low_mm)
    step_mm = _largest_step(box, [plane] * NUM_TILES, TILES_HEIGHT)
    tiles = [tile(plane, float(at_mm), step_mm, 14) for at_mm in places_mm]
    present = np.bincount(labels.ravel(), minlength=table.num_classes) > 0
    legend = draw_legend(table, present, width=SHEET_WIDTH, size=16, structures=structures)
    return np.concatenate([_row(planes), _row(tiles), legend])


def _cut(
    image: Volume,
    labels: NDArray[np.uint8],
    box: HeartBox,
    plane: Plane | str,
    at_mm: float,
    step_mm: float,
    limits: tuple[float, float],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the grey levels and the labels of a slice, both ``(H, W)``.

    What is finer than the scan is left to OpenCV, which enlarges ten times as fast as the sampling
    of a volume.
    """
    finest_mm = float(image.spacing_mm.min())
    _, height, width = frame_slice(plane, box, at_mm, step_mm=step_mm).shape
    coarse = frame_slice(plane, box, at_mm, step_mm=max(step_mm, finest_mm))
    seen = see_image(image.voxels, image.affine, coarse, outside=limits[0])[0]
    gray = to_gray(apply_window(seen, limits))
    # Twice as fine as the voxels, so that oblique borders stay where they are.
    finer = frame_slice(plane, box, at_mm, step_mm=max(step_mm, finest_mm / 2))
    found = see_labels(labels, image.affine, finer)[0]
    return (
        np.asarray(cv2.resize(gray, (width, height), interpolation=cv2.INTER_CUBIC)),
        np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)),
    )


def _largest_step(box: HeartBox, views: Sequence[Plane | str], height: int) -> float:
    """Return the side of a pixel in mm by which slices fill a row, or are as high as allowed."""
    sides = [box.extent_mm[list(world_axes(view))] for view in views]
    gaps = GAP * (len(views) - 1)
    wide_mm, high_mm = sum(side[2] for side in sides), max(side[1] for side in sides)
    # A pixel less each, which rounding may add.
    return float(max(wide_mm / (SHEET_WIDTH - gaps - len(views)), high_mm / height))


def _row(tiles: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Lay slices side by side, in the middle of a black row."""
    height = max(tile.shape[0] for tile in tiles) + GAP
    row = np.zeros((height, SHEET_WIDTH, 3), np.uint8)
    free = SHEET_WIDTH - sum(tile.shape[1] for tile in tiles)
    left = float(free) / (2 * len(tiles))
    for tile in tiles:
        top, start = (height - GAP - tile.shape[0]) // 2, int(left)
        row[top : top + tile.shape[0], start : start + tile.shape[1]] = tile
        left += tile.shape[1] + free / len(tiles)
    return row


def _outline(
    gray: NDArray[np.uint8], labels: NDArray[np.uint8], table: LabelTable
) -> NDArray[np.uint8]:
    """Tint the labels over a slice, and draw their borders in full colour."""
    tinted = overlay(gray, labels, table, opacity=TINT)
    inner = cv2.erode(labels, _CROSS) != cv2.dilate(labels, _CROSS)
    border = (inner & (labels > 0)).astype(np.uint8)
    return np.asarray(cv2.copyTo(table.display(labels), border, tinted))
