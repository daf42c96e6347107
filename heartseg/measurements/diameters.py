"""Diameters of a vessel along its centreline."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.measurements.centerline import Centerline, find_centerlines

PIXELS_PER_RADIUS = 16
WIDEST = 3.0


@dataclass(frozen=True)
class Diameter:
    """A diameter and where it was measured.

    Attributes:
        diameter_mm: Diameter of the circle that has the area of the cross-section.
        place_mm: Centre of the cross-section: right, anterior, superior.
    """

    diameter_mm: float
    place_mm: tuple[float, float, float]


def cross_section(
    field: NDArray[np.float32],
    to_index: NDArray[np.float64],
    point_mm: NDArray[np.float64],
    tangent: NDArray[np.float64],
    radius_mm: float,
) -> tuple[float, NDArray[np.float64]] | None:
    """Return area in mm2 and centre of the cross-section; None if the point is outside."""
    helper = np.eye(3)[np.abs(tangent).argmin()]
    u = np.cross(tangent, helper)
    u /= np.linalg.norm(u)
    v = np.cross(tangent, u)
    for reach in (2.0, 4.0, 8.0):
        pixel = radius_mm / PIXELS_PER_RADIUS * (reach / 2)
        steps = np.arange(-2 * PIXELS_PER_RADIUS, 2 * PIXELS_PER_RADIUS + 1) * pixel
        a, b = np.meshgrid(steps, steps, indexing="ij")
        places = point_mm + a[..., None] * u + b[..., None] * v
        index = places @ to_index[:3, :3].T + to_index[:3, 3]
        sampled = ndimage.map_coordinates(field, np.moveaxis(index, -1, 0), order=1, cval=-1.0)
        parts, _ = ndimage.label(sampled > 0)
        own = parts[2 * PIXELS_PER_RADIUS, 2 * PIXELS_PER_RADIUS]
        if own == 0:
            return None
        mask = parts == own
        if not (mask[[0, -1]].any() or mask[:, [0, -1]].any()):
            return float(mask.sum()) * pixel**2, places[mask].mean(axis=0)
    return None
