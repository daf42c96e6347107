"""The images of a DICOM series as one volume: sorted, on a regular grid, or refused."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.scans.dicom_frames import Frame, name_differences
from heartseg.scans.volume import check_grid

SAME_POSITION_MM = 0.01
"""Images that are closer together lie at the same position."""
POSITION_TOLERANCE = 0.01
"""How far an image may lie from its place on the regular grid, as a part of the slice spacing."""
MIN_TOLERANCE_MM = 0.02
"""Deviations below this pass in any case: some scanners round positions to hundredths."""
DIRECTION_TOLERANCE = 1e-4
"""Direction cosines that differ by less are equal: headers round them to five digits or more."""
MAX_TILT = 1e-3
"""Larger shifts of the slices per mm of the stack are refused; smaller ones the affine keeps."""
_UNIT_TOLERANCE = 1e-3
_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Stack:
    """Images that lie on a regular grid.

    Attributes:
        frames: In ascending order along the normal of the images.
        affine: ``(4, 4)`` from column, row and slice to millimetres (right, anterior, superior).
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of columns, rows and slices."""
        rows, columns = self.frames[0].size
        return columns, rows, len(self.frames)


def count_positions(frames: Sequence[Frame]) -> int:
    """Return at how many positions along the normal of the first image the images lie."""
    if not frames:
        return 0
    depths = np.sort(_positions(frames) @ np.cross(*_directions(frames[0])))
    return 1 + int((np.diff(depths) > SAME_POSITION_MM).sum())


def stack_frames(frames: Sequence[Frame], *, bits: int = 16) -> Stack:
    """Sort images into a volume.

    Args:
        frames: Images of one series in any order.
        bits: Bits of a stored value.

    Raises:
        DataError: If they are not one volume on a regular grid; the message says why.
    """
    _check_alike(frames)
    across, down = _directions(frames[0])
    normal = np.cross(across, down)
    positions = _positions(frames)
    order = np.argsort(positions @ normal, kind="stable")
    frames, positions = [frames[i] for i in order], positions[order]
    if len(frames) == 1:
        raise DataError("it holds a single slice; expected a volume")
    _check_one_per_position(frames, positions @ normal)
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    _check_regular(positions, step, normal)

    between_rows, between_columns = frames[0].spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = _TO_RAS @ np.stack([across * between_columns, down * between_rows, step]).T
    affine[:3, 3] = _TO_RAS @ positions[0]
    stack = Stack(tuple(frames), affine)
    if bits not in (8, 16, 32):
        raise DataError(f"its values have {bits} bits; expected 8, 16 or 32")
    check_grid(stack.shape, np.dtype(f"u{bits // 8}"), source="its header", most=2**62)
    return stack


def _positions(frames: Sequence[Frame]) -> NDArray[np.float64]:
    return np.array([frame.position_mm for frame in frames], np.float64).reshape(-1, 3)


def _directions(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit vectors along a row and down a column."""
    across, down = np.array(frame.orientation, np.float64).reshape(2, 3)
    lengths = float(np.linalg.norm(across)), float(np.linalg.norm(down))
    skew = abs(float(across @ down))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), skew) > _UNIT_TOLERANCE:
        raise DataError("the directions of its rows and columns are not perpendicular unit vectors")
    return across / lengths[0], down / lengths[1]


def _check_alike(frames: Sequence[Frame]) -> None:
    """Raise ``DataError`` unless all images have the size, spacing and directions of the first."""
    sizes = sorted({frame.size for frame in frames})
    if len(sizes) > 1:
        found = " and ".join(f"{rows} x {columns}" for rows, columns in sizes[:3])
        raise DataError(f"its images differ in size ({found} pixels)")
    orientations = np.array([frame.orientation for frame in frames])
    if np.abs(orientations - orientations[0]).max() > DIRECTION_TOLERANCE:
        number = len(np.unique(np.round(orientations, 3), axis=0))
        raise DataError(
            f"its images lie in {number} orientations, as those of a localizer; expected parallel "
            "slices"
        )
    spacings = np.array([frame.spacing_mm for frame in frames])
    if not np.allclose(spacings, spacings[0], rtol=1e-4, atol=0):
        raise DataError("its images differ in pixel spacing")
    if len({frame.frame_of_reference for frame in frames}) > 1:
        raise DataError("its images lie in different coordinate systems (frames of reference)")


def _check_one_per_position(frames: Sequence[Frame], depths: NDArray[np.float64]) -> None:
    """Raise ``DataError`` if images, sorted by depth, lie at the same position."""
    starts = np.flatnonzero(np.diff(depths, prepend=-math.inf) > SAME_POSITION_MM)
    if len(starts) == len(frames):
        return
    groups = np.split(np.arange(len(frames)), starts[1:])
    sizes = {len(group) for group in groups}
    most = max(groups, key=len)
    what = name_differences([frames[i] for i in most])
    if len(sizes) == 1:
        found = f"{len(most)} images at each of {len(groups)} positions"
    else:
        crowded = sum(len(group) > 1 for group in groups)
        found = f"up to {len(most)} images at {crowded} of {len(groups)} positions"
    raise DataError(f"it holds {found}, {what}; expected one image per position")


def _check_regular(
    positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64]
) -> None:
    """Raise ``DataError`` unless sorted positions are evenly spaced along the normal."""
    gaps = np.diff(positions @ normal)
    spacing, typical = float(step @ normal), float(np.median(gaps))
    grid = positions[0] + np.arange(len(positions))[:, np.newaxis] * step
    tolerance = max(MIN_TOLERANCE_MM, POSITION_TOLERANCE * spacing)
    uneven = np.abs((positions - grid) @ normal).max() > tolerance
    if uneven:
        at, widest = int(gaps.argmax()), float(gaps.max())
        missing = round(widest / typical) - 1
        if missing >= 1 and abs(widest - (missing + 1) * typical) <= 2 * tolerance:
            raise DataError(
                f"slices are missing: between slices {at + 1} and {at + 2} of {len(positions)} the "
                f"gap is {widest:.2f} mm and elsewhere {typical:.2f} mm"
            )
        raise DataError(
            f"its slices are unequally spaced, {gaps.min():.2f} to {widest:.2f} mm apart"
        )
    sideways = positions - positions[0]
    sideways = sideways - np.outer(sideways @ normal, normal)
    drift, length = float(np.linalg.norm(sideways[-1])), spacing * len(gaps)
    if drift > max(MIN_TOLERANCE_MM, MAX_TILT * length):
        raise DataError(
            "its slices are shifted against each other, a tilt of "
            f"{math.degrees(math.atan2(drift, length)):.1f} degrees; expected each slice straight "
            "above the one before"
        )
    if np.linalg.norm(positions - grid, axis=1).max() > tolerance:
        raise DataError("its slices are shifted against each other")
