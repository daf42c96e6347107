"""NIfTI headers that contradict themselves, say nothing, or use other units: settled here."""

import logging

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MM_PER_UNIT = {"unknown": 1.0, "mm": 1.0, "micron": 1e-3, "meter": 1e3}
"""Lengths that a header may be in; most that name none are in millimetres."""
FORM_TOLERANCE = 0.1
"""Corners of qform and sform may lie so far apart, as a fraction of the smallest voxel side."""


def settle_header(header: nibabel.Nifti1Header, *, source: str) -> nibabel.Nifti1Header:
    """Return a header of three axes in millimetres, and warn of what had to be assumed.

    - A fourth axis of one frame is left out.
    - Micrometres and metres become millimetres.
    - Without qform and sform the orientation is not known: the first axis is assumed to run toward
      the patient's left, the second anterior, the third superior, as nibabel does.
    - Where qform and sform disagree the sform counts.

    Args:
        header: The header as it is in the file; it is not changed.
        source: What to call the image in a warning, usually its file.

    References:
        The NIfTI-1 data format, methods 1 to 3. https://nifti.nimh.nih.gov/nifti-1
    """
    header = header.copy()
    shape = header.get_data_shape()
    if len(shape) < 3:
        return header
    if len(shape) > 3 and set(shape[3:]) == {1}:
        header.set_data_shape(shape[:3])
    _convert_to_mm(header, source)
    qform, sform = _read_form(header, "qform"), _read_form(header, "sform")
    if qform is None and sform is None:
        logger.warning(
            "%s: the header has neither qform nor sform, so the orientation is unknown. heartseg "
            "assumes that the axes run toward left, anterior and superior. If the scan is stored "
            "otherwise, left and right are exchanged: set the sform, for example with nibabel.",
            source,
        )
    elif qform is not None and sform is not None:
        spacing = np.linalg.norm(sform[:3, :3], axis=0)
        apart_mm = _corner_distance(qform, sform, shape[:3])
        if not apart_mm <= FORM_TOLERANCE * spacing.min():
            logger.warning(
                "%s: qform and sform disagree by %.1f mm at a corner. heartseg uses the sform. If "
                "the scan is shown at the wrong place, fix its header, for example with nibabel.",
                source,
                apart_mm,
            )
    return header


def _convert_to_mm(header: nibabel.Nifti1Header, source: str) -> None:
    try:
        length, time = header.get_xyzt_units()
    except KeyError:
        logger.warning("%s: the header names no known unit; millimetres are assumed", source)
        return
    factor = MM_PER_UNIT[length]
    if factor == 1:
        return
    logger.info("%s: lengths are converted from the header's unit (%s) to mm", source, length)
    scale = np.diag([factor, factor, factor, 1.0])
    # Setting the qform changes them.
    zooms = header.get_zooms()
    # What is too large becomes infinite, and is refused where the geometry is checked.
    with np.errstate(over="ignore", invalid="ignore"):
        for name in ("qform", "sform"):
            form = _read_form(header, name)
            if form is not None:
                getattr(header, f"set_{name}")(scale @ form, int(header[f"{name}_code"]))
        header.set_zooms((*(factor * step for step in zooms[:3]), *zooms[3:]))
    header.set_xyzt_units("mm", time)


def _read_form(header: nibabel.Nifti1Header, name: str) -> NDArray[np.float64] | None:
    """Return a form of the header; None if it is not set, or is no form."""
    try:
        form = getattr(header, f"get_{name}")(coded=True)[0]
    except (HeaderDataError, ValueError):
        return None
    return None if form is None else np.asarray(form, np.float64)


def _corner_distance(
    first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]
) -> float:
    """Return how far the corners of a grid lie apart under two affines, at most."""
    ends = [(-0.5, side - 0.5) for side in shape]
    corners = np.array(np.meshgrid(*ends, [1.0])).reshape(4, -1)
    with np.errstate(all="ignore"):
        return float(np.linalg.norm(((first - second) @ corners)[:3], axis=0).max())
