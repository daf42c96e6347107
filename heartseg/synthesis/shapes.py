"""The shapes of phantoms and scenes: signed distances on a grid, in mm, and random fields.

A distance is negative inside a shape. The array axes run toward posterior, inferior and right.
Everything is computed element by element, so that equal input gives equal bits.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAR_MM = 60.0
"""Distance of the voxels that are too far from a tube to be computed."""
_MARGIN_MM = 14.0

FloatArray = NDArray[np.float32]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """The positions of voxels, in millimetres from the centre of the crop.

    Attributes:
        axes: Three 1D arrays with the coordinates along each array axis.
        points: ``(3, X, Y, Z)`` coordinates, bent by a smooth random field.
        bend_mm: Largest difference between ``points`` and the straight ``axes``.
    """

    axes: tuple[FloatArray, FloatArray, FloatArray]
    points: FloatArray
    bend_mm: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        return (len(self.axes[0]), len(self.axes[1]), len(self.axes[2]))

    def box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, ...]:
        """Return the slices of all voxels that may lie in the box between two corners."""
        return tuple(
            slice(
                int(np.searchsorted(axis, near - self.bend_mm)),
                int(np.searchsorted(axis, far + self.bend_mm, side="right")),
            )
            for axis, near, far in zip(self.axes, low, high, strict=True)
        )


@dataclass(frozen=True)
class Tube:
    """A vessel on a grid.

    Attributes:
        distance_mm: ``(X, Y, Z)`` signed distance to its wall.
        along_mm: ``(X, Y, Z)`` length of the centre line up to its point nearest to the voxel.
        length_mm: Length of the centre line.
    """

    distance_mm: FloatArray
    along_mm: FloatArray
    length_mm: float


def build_grid(
    shape: tuple[int, int, int],
    spacing_mm: Point,
    rng: np.random.Generator,
    *,
    bend_mm: float,
) -> Grid:
    """Place the voxels around the origin, and bend space smoothly, so that shapes are irregular.

    Args:
        shape: Number of voxels along each axis.
        spacing_mm: Distance between neighbouring voxels along each axis.
        rng: Source of the random numbers.
        bend_mm: Largest displacement of a voxel along each axis.
    """
    axes = tuple(
        ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)
        for count, step in zip(shape, spacing_mm, strict=True)
    )
    straight = np.stack(np.meshgrid(*axes, indexing="ij"))
    bend = np.stack([random_field(rng, (axes[0], axes[1], axes[2]), 34.0) for _ in range(3)])
    bend = np.clip(bend * np.float32(bend_mm / 2), -bend_mm, bend_mm)
    return Grid((axes[0], axes[1], axes[2]), straight + bend, bend_mm)


def random_field(
    rng: np.random.Generator, axes: Sequence[FloatArray], wavelength_mm: float
) -> FloatArray:
    """Draw a smooth field with mean 0 and standard deviation near 1.

    It is a cubic spline with a lattice of normal random numbers as coefficients, so that one seed
    gives the same field at every voxel size.

    Args:
        rng: Source of the random numbers.
        axes: Coordinates along each axis in mm, evenly spaced around 0.
        wavelength_mm: Distance between the points of the lattice.

    Returns:
        ``(X, Y, Z)`` values.
    """
    # The lattice has a fixed size, so that the numbers do not depend on the voxels of the crop; it
    # is larger only for a scene of a whole chest.
    reach_mm = max(90.0, *(float(np.abs(axis).max()) for axis in axes))
    half = math.ceil(reach_mm / wavelength_mm)
    field = rng.standard_normal((2 * half + 4,) * 3).astype(np.float32)
    for dimension, axis in enumerate(axes):
        position = np.clip(axis / wavelength_mm + half, 0, 2 * half)
        cell = np.floor(position).astype(np.intp)
        t = (position - cell).astype(np.float32)
        weights = (
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        )
        along = [1, 1, 1]
        along[dimension] = len(axis)
        field = sum(
            np.take(field, cell + tap, axis=dimension) * weight.reshape(along)
            for tap, weight in enumerate(weights)
        )
    # The spline averages neighbours: it keeps about 0.48 of the variance along each axis.
    return np.asarray(field, np.float32) / np.float32(0.48**1.5)


def ellipsoid(
    points: FloatArray, center: Point, radii: Point, frame: NDArray[np.float64] | None = None
) -> FloatArray:
    """Return the approximate signed distance to an ellipsoid.

    Args:
        points: ``(3, X, Y, Z)`` coordinates in mm.
        center: Its centre.
        radii: Half-axes in mm, along the rows of ``frame``.
        frame: ``(3, 3)`` orthonormal rows; None for the directions of the grid.

    Returns:
        ``(X, Y, Z)`` distances in mm, exact to first order at the surface.
    """
    offset = [points[axis] - np.float32(center[axis]) for axis in range(3)]
    inside = np.zeros(points.shape[1:], np.float32)
    slope = np.zeros_like(inside)
    for direction, radius in zip(np.eye(3) if frame is None else frame, radii, strict=True):
        part = sum(
            np.float32(weight) * part for weight, part in zip(direction, offset, strict=True)
        )
        inside += (part / np.float32(radius)) ** 2
        slope += (part / np.float32(radius**2)) ** 2
    level = np.sqrt(inside)
    distance = level * (level - 1) / np.maximum(np.sqrt(slope), np.float32(1e-6))
    return np.asarray(distance, np.float32)


def gap(shape: FloatArray, width_mm: float) -> FloatArray:
    """Return the signed distance to the region at least ``width_mm`` away from a shape."""
    return np.asarray(np.float32(width_mm) - shape, np.float32)


def tube(grid: Grid, stations: Sequence[Point], radii_mm: Sequence[float]) -> Tube:
    """Return a tube of varying width along a smooth curve.

    Args:
        grid: The voxels.
        stations: Points that the centre line passes through, at least two.
        radii_mm: Radius at each station.

    Returns:
        The tube, with distances up to ``_MARGIN_MM`` from the wall and ``FAR_MM`` beyond.
    """
    line = _smooth_curve(np.column_stack([np.asarray(stations, float), radii_mm]))
    best = np.full(grid.shape, FAR_MM, np.float32)
    along = np.zeros(grid.shape, np.float32)
    travelled = 0.0
    for start, stop in itertools.pairwise(line):
        step = stop[:3] - start[:3]
        length = math.sqrt(float((step**2).sum()))
        reach = max(start[3], stop[3]) + _MARGIN_MM
        box = grid.box(
            np.minimum(start[:3], stop[:3]) - reach, np.maximum(start[:3], stop[:3]) + reach
        )
        offset = [grid.points[axis][box] - np.float32(start[axis]) for axis in range(3)]
        fraction = sum(np.float32(step[axis] / length**2) * offset[axis] for axis in range(3))
        fraction = np.clip(fraction, 0, 1)
        squared = sum((offset[axis] - fraction * np.float32(step[axis])) ** 2 for axis in range(3))
        radius = np.float32(start[3]) + fraction * np.float32(stop[3] - start[3])
        distance = np.sqrt(squared) - radius
        closer = distance < best[box]
        best[box] = np.where(closer, distance, best[box])
        along[box] = np.where(
            closer, np.float32(travelled) + fraction * np.float32(length), along[box]
        )
        travelled += length
    return Tube(best, along, travelled)


def rotation(degrees: Point) -> NDArray[np.float64]:
    """Return the ``(3, 3)`` matrix of rotations about the first, then second, then third axis.

    Args:
        degrees: The three angles.
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(degrees):
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[first, first] = turn[second, second] = cosine
        turn[first, second], turn[second, first] = -sine, sine
        matrix = turn @ matrix
    return matrix


def _smooth_curve(stations: NDArray[np.float64], *, parts: int = 6) -> NDArray[np.float64]:
    """Return points on the Catmull-Rom spline through the stations, including the stations."""
    ends = np.vstack(
        [2 * stations[:1] - stations[1:2], stations, 2 * stations[-1:] - stations[-2:-1]]
    )
    t = np.linspace(0, 1, parts, endpoint=False)[:, None]
    segments = [
        b
        + 0.5 * t * (c - a)
        + t**2 * (a - 2.5 * b + 2 * c - 0.5 * d)
        + t**3 * (1.5 * (b - c) + 0.5 * (d - a))
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.vstack([*segments, stations[-1:]])
