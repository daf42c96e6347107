"""The search for the heart in a scan: from several starts, or around what a person drew."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.inference.heart_box import find_box
from heartseg.inference.plausibility import mean_stability
from heartseg.inference.views import View, ViewedScan, average_views
from heartseg.modelfile.description import Calibration
from heartseg.progress import Report, silent

STARTS = (0.65, 0.45)
"""Fractions of the scan's middle where the search starts again if views agree less than usual."""
CLEARLY_BETTER = 0.01
"""A mean stability that is higher by less says nothing."""
DRAWN_MARGIN = 0.05
"""What the box shows beyond drawn structures, as a part of their extent."""


@dataclass(frozen=True, eq=False)
class FoundHeart:
    """Views of a box around the heart, averaged.

    Attributes:
        view: The box.
        probabilities: ``(*FINE_GRID, K)`` over the box.
        stability: ``(K - 1,)`` stability between the views; NaN where absent.
        level: Intensity of blood in the box.
        calls: Which calls of the network these views were.
    """

    view: View
    probabilities: NDArray[np.float32]
    stability: NDArray[np.float64]
    level: float
    calls: slice


def search_heart(
    scan: ViewedScan,
    views: Sequence[View],
    calibration: Calibration | None,
    *,
    drawn: NDArray[np.bool_] | None = None,
    report: Report = silent,
) -> FoundHeart:
    """Find the box around the heart and average views of it.

    Args:
        scan: The scan, without outer planes that show nothing.
        views: The views that are averaged.
        calibration: What the stability between views means; None if that was not measured.
        drawn: Of the scan's shape, where a person drew structures: the box holds them, and where
            the network finds no heart, it lies around them.
        report: Called after each view.

    Raises:
        DataError: If there is no heart, and nothing is drawn.
    """
    found = _search(scan, views, calibration, report)
    if drawn is None:
        return _check_found(found, calibration)
    view = _include(None if found is None else found.view, drawn)
    return _average(scan, view, views, report)


def _average(scan: ViewedScan, view: View, views: Sequence[View], report: Report) -> FoundHeart:
    before = scan.num_calls
    probabilities, stability = average_views(scan, view, views, report=report)
    return FoundHeart(view, probabilities, stability, scan.level, slice(before, scan.num_calls))


def _search(
    scan: ViewedScan, views: Sequence[View], calibration: Calibration | None, report: Report
) -> FoundHeart | None:
    """Return the box around the heart in which views agree best, over several starts.

    In a scan that shows far more than the heart, a search that starts from all of it may end in a
    box that is too large. The intensity of blood in the box is kept in ``scan.level``.
    """
    best, estimate = None, scan.level
    for start in (1.0, *STARTS):
        scan.level = estimate
        box = find_box(scan, start=View((start, start, start)), report=report)
        if box is None:
            continue
        found = _average(scan, box, views, report)
        if np.isnan(found.stability).all():
            continue
        mean = mean_stability(found.stability)
        if best is None or mean > mean_stability(best.stability) + CLEARLY_BETTER:
            best = found
        # Without a calibration nothing says that another start would be better.
        if calibration is None or mean >= calibration.usual - CLEARLY_BETTER:
            break
    if best is not None:
        scan.level = best.level
    return best


def _check_found(found: FoundHeart | None, calibration: Calibration | None) -> FoundHeart:
    """Raise ``DataError`` if there is no heart."""
    hopeless = 0.0 if calibration is None else calibration.hopeless
    if found is None or mean_stability(found.stability) < hopeless:
        reason = (
            "nothing like a heart"
            if found is None
            else f"its views agree only to {mean_stability(found.stability):.2f}"
        )
        raise DataError(
            f"found no heart ({reason}); this model knows MR of the heart with bright blood only"
        )
    return found


def _include(found: View | None, drawn: NDArray[np.bool_]) -> View:
    """Return the box around the heart and all that is drawn of it."""
    zooms, shifts = [], []
    for axis, side in enumerate(drawn.shape):
        planes = np.flatnonzero(drawn.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = DRAWN_MARGIN * (planes[-1] + 1 - planes[0])
        low, high = (planes[0] - margin) / side, (planes[-1] + 1 + margin) / side
        if found is not None:
            middle, half = 0.5 + found.shift[axis], found.zoom[axis] / 2
            low, high = min(low, middle - half), max(high, middle + half)
        low, high = max(0.0, low), min(1.0, high)
        zooms.append(float(high - low))
        shifts.append(float((low + high) / 2 - 0.5))
    return View((zooms[0], zooms[1], zooms[2]), (shifts[0], shifts[1], shifts[2]))
