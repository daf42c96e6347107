"""Diameters of a vessel along its centreline."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.measurements.centerline import find_centerlines

PIXELS = 32
"""Samples of a cross-section from its middle to the border of the sampled square."""
REACHES = (2.0, 4.0, 8.0)
"""Half sides of the square in radii of the vessel; the first one that the vessel fits into."""


@dataclass(frozen=True)
class Diameter:
    """A diameter and where it was measured.

    Attributes:
        diameter_mm: Diameter of the circle with the area of the cross-section.
        place_mm: Centre of the cross-section in the patient: right, anterior, superior.
    """

    diameter_mm: float
    place_mm: tuple[float, float, float]


@dataclass(frozen=True)
class VesselDiameters:
    """What the diameters along a vessel are.

    Attributes:
        largest: The largest one.
        median: The one in the middle of all, along even steps.
        smallest: The smallest one.
    """

    largest: Diameter
    median: Diameter
    smallest: Diameter


def measure_diameters(
    field: NDArray[np.float32], affine: NDArray[np.float64]
) -> VesselDiameters | None:
    """Measure a vessel in planes that are perpendicular to its centreline.

    The centreline is the longest line through the vessel, of each part if there are several; side
    branches are not measured. It ends about a radius before the vessel does, since planes nearer to
    an end miss part of it.

    Args:
        field: ``(X, Y, Z)`` samples, positive inside the vessel.
        affine: ``(4, 4)`` from the indices of the samples to millimetres.

    Returns:
        The diameters; None if there is no vessel, or it is too small to have a line.
    """
    if not (field > 0).any():
        return None
    to_index = np.asarray(np.linalg.inv(affine), np.float64)
    found = []
    for line in find_centerlines(field, affine):
        for point, tangent in zip(line.points_mm, line.tangents, strict=True):
            diameter = _measure_section(field, to_index, point, tangent, line.radius_mm)
            if diameter is not None:
                found.append(diameter)
    if not found:
        return None
    found.sort(key=lambda diameter: diameter.diameter_mm)
    return VesselDiameters(found[-1], found[len(found) // 2], found[0])


def _measure_section(
    field: NDArray[np.float32],
    to_index: NDArray[np.float64],
    point_mm: NDArray[np.float64],
    tangent: NDArray[np.float64],
    radius_mm: float,
) -> Diameter | None:
    """Measure the part of a plane that lies in the vessel around a point.

    Returns:
        The diameter; None if the point lies outside, or the part does not end.
    """
    across: NDArray[np.float64] = np.cross(tangent, np.eye(3)[np.abs(tangent).argmin()])
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(tangent, across)]).astype(np.float64)
    for reach in REACHES:
        pixel_mm = reach * radius_mm / PIXELS
        steps = np.arange(-PIXELS, PIXELS + 1) * pixel_mm
        places = point_mm + np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=2) @ axes
        index = places @ to_index[:3, :3].T + to_index[:3, 3]
        sampled = ndimage.map_coordinates(field, np.moveaxis(index, 2, 0), order=1, cval=-1.0)
        parts, _ = ndimage.label(sampled > 0)
        own = parts[PIXELS, PIXELS]
        if own == 0:
            return None
        section = parts == own
        if not (section[[0, -1]].any() or section[:, [0, -1]].any()):
            area_mm2 = float(section.sum()) * pixel_mm**2
            x, y, z = (float(value) for value in places[section].mean(axis=0))
            return Diameter(2 * math.sqrt(area_mm2 / math.pi), (x, y, z))
    return None
