"""Pictures of a case: slices with the reference and the prediction side by side."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from heartseg.labels import LabelTable
from heartseg.opencv import cv2

PICTURE_HEIGHT = 240
OPACITY = 0.5
_AXES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class OrientedCase:
    """A case with array axes toward right, anterior and superior, ready to be drawn.

    Attributes:
        case: Name of the case.
        prediction: ``(X, Y, Z)`` label map.
        reference: ``(X, Y, Z)`` label map.
        spacing_mm: Distance between neighbouring voxels along each axis.
        image: ``(X, Y, Z)`` intensities, 0 black to 1 white; None if unknown.
    """

    case: str
    prediction: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]
    image: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Picture:
    """One picture of a case.

    Attributes:
        title: What it shows.
        data_url: The PNG file, as a ``data:`` address.
    """

    title: str
    data_url: str


def orient_case(
    case: str,
    prediction: NDArray[np.uint8] | None,
    reference: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    image: NDArray[np.floating] | None = None,
) -> OrientedCase:
    """Turn the arrays of a case so that their axes run toward right, anterior and superior.

    Args:
        case: Name of the case.
        prediction: ``(X, Y, Z)`` label map; None counts as empty.
        reference: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        image: ``(X, Y, Z)`` intensities, 0 black to 1 white; None if unknown.
    """
    turns = orientations.io_orientation(affine)

    def turn(voxels: NDArray[Any]) -> NDArray[Any]:
        turned: NDArray[Any] = orientations.apply_orientation(voxels, turns)
        return turned

    spacing = np.zeros(3)
    spacing[turns[:, 0].astype(int)] = np.linalg.norm(affine[:3, :3], axis=0)
    x, y, z = (float(step) for step in spacing)
    return OrientedCase(
        case,
        turn(np.zeros_like(reference) if prediction is None else prediction),
        turn(reference),
        (x, y, z),
        None if image is None else turn(image).astype(np.float32),
    )


def draw_case(case: OrientedCase, table: LabelTable) -> list[Picture]:
    """Draw the slice with most differences in each plane: the reference beside the prediction.

    Args:
        case: The case.
        table: The colours.

    Returns:
        A sagittal, a coronal and an axial picture. Superior is at the top, in the axial one
        anterior. The patient's right is on the left, in the sagittal one anterior is on the right.
    """
    pictures = []
    for axis, plane in enumerate(_AXES):
        index = _find_slice_to_show(case, axis)
        panels = [
            _panel(case, labels, axis, index, table) for labels in (case.reference, case.prediction)
        ]
        gap = np.full((panels[0].shape[0], 6, 3), 255, np.uint8)
        picture = np.concatenate([panels[0], gap, panels[1]], axis=1)
        pictures.append(Picture(f"{plane} {index}", _to_data_url(picture)))
    return pictures


def _find_slice_to_show(case: OrientedCase, axis: int) -> int:
    """Return the slice with most differences; without any, that with most labelled voxels."""
    others = tuple(other for other in range(3) if other != axis)
    differing = (case.prediction != case.reference).sum(axis=others)
    if not differing.any():
        differing = (case.reference > 0).sum(axis=others)
    return int(differing.argmax())


def _panel(
    case: OrientedCase, labels: NDArray[np.uint8], axis: int, index: int, table: LabelTable
) -> NDArray[np.uint8]:
    plane = _cut(labels, axis, index)
    colors = table.display(plane).astype(np.float32)
    if case.image is not None:
        gray = 255 * np.clip(_cut(case.image, axis, index), 0, 1)[..., np.newaxis]
        mixed = OPACITY * colors + (1 - OPACITY) * gray
        colors = np.where(plane[..., np.newaxis] > 0, mixed, gray).astype(np.float32)
    spacing = [step for other, step in enumerate(case.spacing_mm) if other != axis]
    width_mm, height_mm = spacing[0] * plane.shape[1], spacing[1] * plane.shape[0]
    size = (max(1, round(PICTURE_HEIGHT * width_mm / height_mm)), PICTURE_HEIGHT)
    panel: NDArray[np.uint8] = cv2.resize(
        np.rint(colors).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT
    )
    return panel


def _cut(voxels: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Cut a slice of a right-anterior-superior volume, in the radiological convention."""
    rows: NDArray[Any] = voxels.take(index, axis).T[::-1]
    # Sagittal slices have anterior on the right, the others the patient's right on the left.
    return rows if axis == 0 else rows[:, ::-1]


def _to_data_url(picture: NDArray[np.uint8]) -> str:
    _, encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return "data:image/png;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
