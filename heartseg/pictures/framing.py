"""The heart of a scan, framed: a box along the patient's axes, and what is seen in it.

Scans lie obliquely and have voxels of any proportion; whoever looks at a heart wants it straight,
in true proportion and without what is around it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.scans.geometry import Plane

MARGIN_MM = 12.0
"""What is shown around a heart."""
# World axes (0 right, 1 anterior, 2 superior) of the slices, the rows and the columns of a plane,
# and the way along them: the patient's right is on the left, superior or anterior is up, and
# anterior is right in sagittal slices.
_AXES = {
    Plane.AXIAL: ((2, 1), (1, -1), (0, -1)),
    Plane.CORONAL: ((1, 1), (2, -1), (0, -1)),
    Plane.SAGITTAL: ((0, 1), (2, -1), (1, 1)),
}
_SIDES = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class HeartBox:
    """A box around the heart along the patient's axes: right, anterior, superior.

    Attributes:
        low_mm: ``(3,)`` its left, posterior, inferior corner.
        high_mm: ``(3,)`` its right, anterior, superior corner.
        heart_mm: ``(2, 3)`` its corners without the margin.
        center_mm: ``(3,)`` the centre of the heart: the mean position of its voxels.
    """

    low_mm: NDArray[np.float64]
    high_mm: NDArray[np.float64]
    heart_mm: NDArray[np.float64]
    center_mm: NDArray[np.float64]

    @property
    def extent_mm(self) -> NDArray[np.float64]:
        """``(3,)`` its sides."""
        return self.high_mm - self.low_mm


@dataclass(frozen=True)
class Frame:
    """A grid of pixels in the patient.

    Attributes:
        affine: ``(4, 4)`` from slice, row and column to millimetres.
        shape: Slices, rows and columns.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]


def find_heart(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], *, margin_mm: float = MARGIN_MM
) -> HeartBox:
    """Find the box around all labelled voxels, with a margin, inside the scan.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        margin_mm: What is added on each side.

    Returns:
        The box; that of the whole scan if no voxel is labelled.
    """
    scan_low, scan_high = _bounds(np.array([[0, side - 1] for side in labels.shape]), affine)
    index = np.stack(np.nonzero(labels))
    if not index.size:
        scan = np.stack([scan_low, scan_high])
        return HeartBox(scan_low, scan_high, scan, scan.mean(axis=0))
    # In single precision, which is exact for indices and halves the time.
    world = affine[:3, :3].astype(np.float32) @ index.astype(np.float32)
    world_low, world_high = (
        np.asarray(ends, np.float64) + affine[:3, 3]
        for ends in (world.min(axis=1), world.max(axis=1))
    )
    reach = np.abs(affine[:3, :3]).sum(axis=1) / 2
    heart = np.stack([world_low - reach, world_high + reach])
    return HeartBox(
        np.maximum(heart[0] - margin_mm, scan_low),
        np.minimum(heart[1] + margin_mm, scan_high),
        heart,
        affine[:3, :3] @ index.mean(axis=1) + affine[:3, 3],
    )


def frame_slice(plane: Plane | str, box: HeartBox, at_mm: float, *, step_mm: float) -> Frame:
    """Lay a slice through a box.

    Args:
        plane: The anatomical plane.
        box: The box.
        at_mm: Where the slice lies along the third axis.
        step_mm: Side of a pixel.
    """
    (stack, _), (down, down_sign), (across, across_sign) = _AXES[Plane(plane)]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    affine[stack, 0] = step_mm
    affine[down, 1], affine[across, 2] = down_sign * step_mm, across_sign * step_mm
    rows, cols = (max(1, round(float(box.extent_mm[axis]) / step_mm)) for axis in (down, across))
    middle = (box.low_mm + box.high_mm) / 2
    middle[stack] = at_mm
    affine[:3, 3] = middle - affine[:3, 1] * (rows - 1) / 2 - affine[:3, 2] * (cols - 1) / 2
    return Frame(affine, (1, rows, cols))


def frame_box(box: HeartBox, *, step_mm: float) -> Frame:
    """Fill a box with cubes; slices run superior, rows anterior and columns to the right."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    affine[[2, 1, 0], [0, 1, 2]] = step_mm
    sides = np.maximum(np.ceil(box.extent_mm / step_mm - 1e-6).astype(int), 1)
    # Centred, so that what is added by rounding up is shared by both ends.
    affine[:3, 3] = (box.low_mm + box.high_mm) / 2 - step_mm * (sides - 1) / 2
    right, anterior, superior = (int(side) for side in sides)
    return Frame(affine, (superior, anterior, right))


def see_image(
    voxels: NDArray[np.floating], affine: NDArray[np.float64], frame: Frame, *, outside: float
) -> NDArray[np.float32]:
    """Interpolate intensities linearly on the pixels of a frame, up to the border of the scan.

    Args:
        voxels: ``(X, Y, Z)`` intensities.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        frame: The pixels.
        outside: What is seen beyond the scan.

    Returns:
        ``frame.shape`` intensities.
    """
    thin, thin_affine = _thin_out(voxels, affine, frame)
    seen = _see(thin.astype(np.float32, copy=False), thin_affine, frame, 1, "nearest")
    seen[~_inside(voxels.shape, affine, frame)] = outside
    return np.asarray(seen)


def see_labels(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], frame: Frame
) -> NDArray[np.uint8]:
    """Return the label of the voxel in which each pixel of a frame lies; 0 beyond the scan."""
    return np.asarray(_see(labels, affine, frame, 0, "grid-constant"))


def side_marks(plane: Plane | str) -> tuple[str, str, str, str]:
    """Return the letters of the patient's sides at the top, bottom, left and right of a slice."""
    _, (down, down_sign), (across, across_sign) = _AXES[Plane(plane)]
    top, bottom = _SIDES[down][::down_sign]
    left, right = _SIDES[across][::across_sign]
    return top, bottom, left, right


def world_axes(plane: Plane | str) -> tuple[int, int, int]:
    """Return the world axes (0 right, 1 anterior, 2 superior) of slices, rows and columns."""
    (stack, _), (down, _), (across, _) = _AXES[Plane(plane)]
    return stack, down, across


def _bounds(
    ends: NDArray[np.integer], affine: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest corner of the voxels between two ends of each axis."""
    sides = (ends + np.array([-0.5, 0.5])).tolist()
    corners = np.stack(np.meshgrid(*sides, indexing="ij")).reshape(3, 8)
    world = affine[:3, :3] @ corners + affine[:3, 3:]
    return world.min(axis=1), world.max(axis=1)


def _thin_out(
    voxels: NDArray[Any], affine: NDArray[np.float64], frame: Frame
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Average voxels that are much finer than pixels, which would else show single ones' noise."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factors = np.maximum(np.linalg.norm(frame.affine[:3, 2]) / spacing + 1e-3, 1).astype(int)
    factors = np.minimum(factors, voxels.shape)
    if (factors == 1).all():
        return voxels, affine
    whole = [side // factor for side, factor in zip(voxels.shape, factors, strict=True)]
    cut = tuple(slice(0, n * factor) for n, factor in zip(whole, factors, strict=True))
    blocks = [part for pair in zip(whole, factors, strict=True) for part in pair]
    thinner = voxels[cut].reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float32)
    scaled = affine.copy()
    scaled[:3, :3] = affine[:3, :3] * factors
    scaled[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factors - 1) / 2)
    return thinner, scaled


def _see(
    voxels: NDArray[Any], affine: NDArray[np.float64], frame: Frame, order: int, mode: str
) -> NDArray[Any]:
    to_voxels = np.linalg.inv(affine) @ frame.affine
    seen: NDArray[Any] = ndimage.affine_transform(
        voxels,
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=frame.shape,
        order=order,
        mode=mode,
    )
    return seen


def _inside(shape: tuple[int, ...], affine: NDArray[np.float64], frame: Frame) -> NDArray[np.bool_]:
    """Return which pixels of a frame lie in a voxel of the scan."""
    to_voxels = np.linalg.inv(affine) @ frame.affine
    slices, rows, cols = np.ogrid[tuple(slice(side) for side in frame.shape)]
    inside = np.ones(frame.shape, bool)
    for axis, side in enumerate(shape):
        steps = to_voxels[axis]
        place = steps[0] * slices + steps[1] * rows + (steps[2] * cols + steps[3])
        inside &= (place > -0.5 - 1e-6) & (place < side - 0.5 + 1e-6)
    return inside
