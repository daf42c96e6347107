"""Body surface area, to which volumes are indexed."""

import math

from heartseg.errors import DataError

HEIGHTS_CM = (30.0, 250.0)
WEIGHTS_KG = (0.5, 350.0)
AREAS_M2 = (0.05, 4.0)
BODY_MASS_INDICES = (5.0, 100.0)
"""From a small preterm infant to the largest adults; beyond, a unit was mistaken."""


def body_surface_m2(
    *, height_cm: float | None, weight_kg: float | None, area_m2: float | None
) -> float | None:
    """Return the body surface area that height and weight give, or that is given itself.

    Args:
        height_cm: Height in centimetres.
        weight_kg: Weight in kilograms.
        area_m2: Body surface area in square metres, in place of both.

    Returns:
        Square metres; None if nothing is given.

    Raises:
        DataError: If a value is none of a patient, one of height and weight is missing, or all
            are given.
    """
    if area_m2 is not None:
        if height_cm is not None or weight_kg is not None:
            raise DataError(
                "body surface area: it follows from height and weight; give these two, or the "
                "area alone"
            )
        _check("body surface area", area_m2, AREAS_M2, "m2")
        return area_m2
    if height_cm is None and weight_kg is None:
        return None
    if height_cm is None or weight_kg is None:
        given, missing = ("weight", "height") if height_cm is None else ("height", "weight")
        raise DataError(
            f"body surface area: the {given} is given and the {missing} is not; give both, or the "
            "area alone"
        )
    return mosteller_m2(height_cm, weight_kg)


def mosteller_m2(height_cm: float, weight_kg: float) -> float:
    """Return the body surface area in square metres: the root of height times weight over 3600.

    Args:
        height_cm: Height in centimetres.
        weight_kg: Weight in kilograms.

    Raises:
        DataError: If a value is none of a patient, or they are not of one.

    References:
        Mosteller (1987). Simplified calculation of body-surface area. N Engl J Med 317(17):1098.
        https://doi.org/10.1056/NEJM198710223171717
    """
    _check("height", height_cm, HEIGHTS_CM, "cm")
    _check("weight", weight_kg, WEIGHTS_KG, "kg")
    index = weight_kg / (height_cm / 100) ** 2
    low, high = BODY_MASS_INDICES
    if not low <= index <= high:
        raise DataError(
            f"height and weight: {height_cm:g} cm and {weight_kg:g} kg give a body mass index of "
            f"{index:.3g} kg/m2, expected {low:g} to {high:g}; are they exchanged?"
        )
    return math.sqrt(height_cm * weight_kg / 3600)


def _check(what: str, value: float, limits: tuple[float, float], unit: str) -> None:
    low, high = limits
    if not low <= value <= high:
        raise DataError(f"{what}: expected {low:g} to {high:g} {unit}, got {value:g}")
