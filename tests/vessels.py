"""Tubes of known diameter, drawn on the grids that scanners give."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Tube:
    """A tube with flat ends.

    Attributes:
        mask: ``(X, Y, Z)`` which voxel centres lie inside.
        affine: From voxel indices to millimetres.
        line_mm: ``(N, 3)`` places along its middle.
        radii_mm: ``(N,)`` radius at each of them.
    """

    mask: np.ndarray
    affine: np.ndarray
    line_mm: np.ndarray
    radii_mm: np.ndarray


def draw_tube(line_mm, radius_mm, steps_mm):
    """Draw a tube around a line.

    Args:
        line_mm: ``(N, 3)`` places, closely spaced.
        radius_mm: Its radius, or ``(N,)`` radii.
        steps_mm: ``(3, 3)`` steps along the axes of the grid, as columns.
    """
    radii = np.broadcast_to(np.asarray(radius_mm, float), len(line_mm))
    inverse = np.linalg.inv(steps_mm)
    reach = (radii.max() + 3) * np.linalg.norm(inverse, axis=1)
    ends = line_mm @ inverse.T
    low, high = np.floor(ends.min(axis=0) - reach), np.ceil(ends.max(axis=0) + reach)
    shape = (high - low).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps_mm, steps_mm @ low
    places = np.indices(shape).reshape(3, -1).T @ steps_mm.T + affine[:3, 3]
    distances, nearest = cKDTree(line_mm).query(places)
    inside = distances <= radii[nearest]
    for end, after in ((0, 1), (-1, -2)):
        outwards = line_mm[end] - line_mm[after]
        beyond = (places - line_mm[end]) @ outwards > 0
        inside &= ~(beyond & (nearest == np.arange(len(line_mm))[end]))
    return Tube(inside.reshape(shape), affine, line_mm, radii)


def straight(length_mm, direction, num=1500):
    """Return places along a straight line."""
    direction = np.array(direction, float) / np.linalg.norm(direction)
    return np.linspace(0, length_mm, num)[:, np.newaxis] * direction


def arc(radius_mm, degrees, num=1500):
    """Return places along a part of a circle in the plane of right and anterior."""
    angles = np.deg2rad(np.linspace(0, degrees, num))
    return radius_mm * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
