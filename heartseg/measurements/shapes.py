"""What is measured on smooth surfaces, in a second or more: areas, and diameters of vessels."""

from collections.abc import Mapping
from dataclasses import dataclass

from heartseg.measurements.diameters import VesselDiameters, measure_diameters
from heartseg.surfaces.label_surfaces import FittedHeart

VESSELS = ("AO", "PA", "SVC", "IVC")
"""Structures that have a centreline."""


@dataclass(frozen=True)
class StructureShape:
    """What is measured on the smooth surface of a structure.

    Attributes:
        surface_area_mm2: Its area.
        diameters: Of a vessel; None for chambers, and for what is too small to have a centreline.
    """

    surface_area_mm2: float
    diameters: VesselDiameters | None


def measure_shapes(heart: FittedHeart | None) -> Mapping[str, StructureShape]:
    """Measure the structures of a heart.

    Args:
        heart: Their surfaces; None of an empty label map.

    Returns:
        One entry per structure that is there, by its key.
    """
    if heart is None:
        return {}
    return {
        key: StructureShape(
            mesh.area_mm2,
            measure_diameters(*heart.field(key)) if key.upper() in VESSELS else None,
        )
        for key, mesh in heart.meshes.items()
    }
