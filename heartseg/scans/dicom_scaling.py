"""How the stored values of a DICOM image become intensities."""

import math

from heartseg.errors import DataError
from heartseg.scans.dicom_files import unreadable
from heartseg.scans.dicom_values import FrameGroups, numbers_of, private_value, value_of

_PHILIPS_SLOPE = (0x2005, "Philips MR Imaging DD 001", 0x0E)
_PHILIPS_FRAME = (0x2005, "Philips MR Imaging DD 005", 0x0F)
"""Where Philips keeps the scale slope, and the sequence that holds it in multi-frame files."""
PHILIPS_TAGS = (
    *(0x20050000 + element for element in range(0x10, 0x20)),
    *(0x2005000E + (block << 8) for block in range(0x10, 0x20)),
)
"""The same as numbers of attributes, and those that say who defines them."""


def read_scaling(groups: FrameGroups) -> tuple[float, float]:
    """Return slope and intercept: of the rescaling, else of the mapping to real-world values.

    Philips scales each image for display and states the scale of the measured values beside it.

    References:
        Chenevert et al. (2014). Transl Oncol 7(1), 65-71. https://doi.org/10.1593/tlo.13811
    """
    rescaling = groups.find("PixelValueTransformationSequence")
    mapping = groups.find("RealWorldValueMappingSequence")
    if value_of(rescaling, "RescaleSlope") is not None:
        slope = numbers_of(rescaling, "RescaleSlope", 1)
        intercept = numbers_of(rescaling, "RescaleIntercept", 1)
    elif value_of(mapping, "RealWorldValueSlope") is not None:
        slope = numbers_of(mapping, "RealWorldValueSlope", 1)
        intercept = numbers_of(mapping, "RealWorldValueIntercept", 1)
    else:
        return 1.0, 0.0
    if slope is None or slope[0] == 0 or intercept is None:
        raise DataError("the scaling of its values (slope and intercept) is broken")
    measured = _find_philips_slope(groups)
    if measured is not None:
        return 1 / measured, intercept[0] / (slope[0] * measured)
    return slope[0], intercept[0]


def _find_philips_slope(groups: FrameGroups) -> float | None:
    """Return the scale slope of Philips, which leads from measured to stored values."""
    for place in (*groups.groups, groups.dataset):
        own = private_value(place, _PHILIPS_FRAME)
        for holder in (own[0] if own else None, place):
            slope = None if holder is None else private_value(holder, _PHILIPS_SLOPE)
            try:
                number = float(slope if slope is not None else 0)
            except unreadable():
                continue
            if math.isfinite(number) and number > 0:
                return number
    return None
