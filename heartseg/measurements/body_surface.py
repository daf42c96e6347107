"""Body surface area, to which volumes are indexed."""

import math

from heartseg.errors import DataError

HEIGHTS_CM = (30.0, 250.0)
WEIGHTS_KG = (0.5, 350.0)
AREAS_M2 = (0.05, 4.0)
"""From a small preterm infant to the largest adults; beyond, a unit was mistaken."""


def mosteller_m2(height_cm: float, weight_kg: float) -> float:
    """Return the body surface area in square metres: the root of height times weight over 3600.

    Args:
        height_cm: Height in centimetres.
        weight_kg: Weight in kilograms.

    Raises:
        DataError: If a value is none of a patient.

    References:
        Mosteller (1987). Simplified calculation of body-surface area. N Engl J Med 317(17):1098.
        https://doi.org/10.1056/NEJM198710223171717
    """
    _check("height", height_cm, HEIGHTS_CM, "cm")
    _check("weight", weight_kg, WEIGHTS_KG, "kg")
    return math.sqrt(height_cm * weight_kg / 3600)


def check_area_m2(area_m2: float) -> None:
    """Raise ``DataError`` if a body surface area is none of a patient."""
    _check("body surface area", area_m2, AREAS_M2, "m2")


def _check(what: str, value: float, limits: tuple[float, float], unit: str) -> None:
    low, high = limits
    if not low <= value <= high:
        raise DataError(f"{what}: expected {low:g} to {high:g} {unit}, got {value:g}")
