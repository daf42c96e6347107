"""How a network views a scan: where the heart is, and the average of several views of it.

Hearts of newborns and of adults look alike to the network, which was trained on boxes around them,
stretched to one grid whatever their size in mm. Arrays here have the axes toward posterior,
inferior and right ("PIR"), like the training data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.errors import ModelError
from heartseg.progress import Report, silent
from heartseg.scans.intensity import normalize
from heartseg.scans.resampling import resample, sampling_matrix

PredictVolume: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``(1, P, I, R, 1)`` images, blood near 1, to ``(1, P, I, R, K)`` logits."""
Triple: TypeAlias = tuple[float, float, float]
Box: TypeAlias = tuple[slice, slice, slice]

FINE_GRID = (80, 112, 96)
"""Where views are averaged: finer than what the network sees, coarser than most scans."""
WORKING_SIDE = 192
"""Longer axes are shrunk once before the views are cut: four times what the network sees."""
HEART_FRACTION = (0.83, 0.87, 0.92)
"""Median fraction of the box that the heart takes, along each axis, in the training data."""
SHRINKS_BELOW = 0.8
"""A box is cut only where the heart would fill much less of it than in training: 0.85 of the
median is the least that occurs there."""
SMALLEST_STEP = 0.6
"""No step cuts more: the first view of a large scan is a rough one."""
MOST_STEPS = 6


@dataclass(frozen=True)
class View:
    """One view of a box: the window that the network sees.

    Attributes:
        zoom: Extent of the window along each axis, as a fraction of the box's.
        shift: Offset of its centre from that of the box, as a fraction of the box's extent.
    """

    zoom: Triple = (1.0, 1.0, 1.0)
    shift: Triple = (0.0, 0.0, 0.0)

    def within(self, outer: "View") -> "View":
        """Return this view of the box that another view shows, as a view of the other's box."""
        return View(
            _triple(z * o for z, o in zip(self.zoom, outer.zoom, strict=True)),
            _triple(s * z + t for s, z, t in zip(self.shift, outer.zoom, outer.shift, strict=True)),
        )


VIEWS = (
    View(),
    View((1.08, 1.08, 1.08), (0.01, 0.01, -0.01)),
    View((0.93, 0.93, 0.93), (-0.01, 0.01, 0.01)),
    View((1.0, 0.95, 1.06), (0.02, -0.02, 0.015)),
    View((1.05, 1.0, 0.95), (-0.02, 0.015, -0.02)),
)
"""The views that are averaged."""


class ViewedScan:
    """A scan, and the network that views it.

    Attributes:
        shape: Voxels of the scan.
        grid: Voxels that the network sees of each view.
        num_classes: Classes that the network tells apart, background included.
    """

    def __init__(
        self,
        predict: PredictVolume,
        voxels: NDArray[np.floating],
        grid: tuple[int, int, int],
        num_classes: int,
    ) -> None:
        self._predict, self.grid, self.num_classes = predict, grid, num_classes
        self.shape: tuple[int, int, int] = voxels.shape
        matrices = [sampling_matrix(min(side, WORKING_SIDE), side) for side in self.shape]
        shrinks = max(self.shape) > WORKING_SIDE
        self._voxels = resample(voxels, matrices) if shrinks else voxels.astype(np.float32)
        # MR has no negative intensities: where there are some, 0 means something else.
        self._floor = float(np.percentile(self._voxels[::2, ::2, ::2], 1))
        self._floor = self._floor if self._floor < -1e-2 * self._voxels.max() else 0.0

    def probabilities(self, view: View) -> NDArray[np.float32]:
        """Return the ``(*grid, K)`` probabilities of what a view of the scan shows.

        Raises:
            ModelError: If the network's answer has another shape.
        """
        seen = resample(
            self._voxels,
            [
                sampling_matrix(wanted, side, zoom=zoom, shift=shift)
                for wanted, side, zoom, shift in zip(
                    self.grid, self._voxels.shape, view.zoom, view.shift, strict=True
                )
            ],
        )
        logits = self._predict(normalize(seen - self._floor)[np.newaxis, ..., np.newaxis])
        expected = (1, *self.grid, self.num_classes)
        if logits.shape != expected:
            raise ModelError(
                f"expected logits of shape {expected} from the model, got {logits.shape}"
            )
        return softmax(logits[0])


def find_box(scan: ViewedScan, *, start: View | None = None, report: Report = silent) -> Box | None:
    """Find the box around the heart: view the scan, cut around what is found, view again.

    Args:
        scan: The scan.
        start: The first view; None: the whole scan.
        report: Called after each view.

    Returns:
        The box in voxels, the whole scan where the heart fills it as in training; None where
        nothing is found.
    """
    view = start or View()
    for step in range(MOST_STEPS):
        found = scan.probabilities(view)[..., 0] < 0.5
        report(step, MOST_STEPS, "looking for the heart")
        if not found.any():
            return None
        around = _view_around(found)
        if around == View():
            break
        view = _inside(around.within(view))
    return _to_box(view, scan.shape)


def _view_around(found: NDArray[np.bool_]) -> View:
    """Return the view in which a heart has the place that it has in training."""
    # The largest component: what else is taken for blood far away must not widen the box.
    components, count = ndimage.label(found)
    if count > 1:
        found = components == np.bincount(components.ravel())[1:].argmax() + 1
    zooms, shifts = [], []
    for axis, fraction in enumerate(HEART_FRACTION):
        places = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = places[0] / found.shape[axis], (places[-1] + 1) / found.shape[axis]
        zoom = max((high - low) / fraction, SMALLEST_STEP)
        # Where the heart fills the box as in training, nothing is cut.
        keeps = zoom >= SHRINKS_BELOW
        zooms.append(1.0 if keeps else zoom)
        shifts.append(0.0 if keeps else (low + high) / 2 - 0.5)
    return View(_triple(zooms), _triple(shifts))


def _inside(view: View) -> View:
    """Move a view so that it does not leave the volume."""
    zoom = _triple(min(z, 1.0) for z in view.zoom)
    return View(
        zoom,
        _triple(
            float(np.clip(s, (z - 1) / 2, (1 - z) / 2))
            for z, s in zip(zoom, view.shift, strict=True)
        ),
    )


def _to_box(view: View, shape: tuple[int, int, int]) -> Box:
    first, second, third = (
        slice(
            max(0, round((0.5 + shift - zoom / 2) * side)),
            min(side, max(1, round((0.5 + shift + zoom / 2) * side))),
        )
        for side, zoom, shift in zip(shape, view.zoom, view.shift, strict=True)
    )
    return first, second, third


def _to_view(box: Box, shape: tuple[int, int, int]) -> View:
    sides = list(zip(box, shape, strict=True))
    return View(
        _triple((b.stop - b.start) / side for b, side in sides),
        _triple((b.start + b.stop) / 2 / side - 0.5 for b, side in sides),
    )


def average_views(
    scan: ViewedScan, box: Box, views: Sequence[View] = VIEWS, *, report: Report = silent
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Average the probabilities of several views of a box, and measure how far the views agree.

    Args:
        scan: The scan.
        box: The box around the heart, in voxels.
        views: The views, each relative to the box.
        report: Called after each view.

    Returns:
        ``(*FINE_GRID, K)`` probabilities over the box, and the stability as in
        ``measure_stability``.
    """
    whole = _to_view(box, scan.shape)
    total = np.zeros((*FINE_GRID, scan.num_classes), np.float32)
    weight = np.zeros(FINE_GRID, np.float32)
    seen = []
    for index, view in enumerate(views):
        probabilities = resample(
            scan.probabilities(view.within(whole)),
            [
                sampling_matrix(fine, side, zoom=1 / zoom, shift=-shift / zoom)
                for fine, side, zoom, shift in zip(
                    FINE_GRID, scan.grid, view.zoom, view.shift, strict=True
                )
            ],
        )
        # A view says nothing about what lies outside its window.
        rows, columns, layers = (
            np.abs((np.arange(fine) + 0.5) / fine - 0.5 - shift) <= zoom / 2
            for fine, zoom, shift in zip(FINE_GRID, view.zoom, view.shift, strict=True)
        )
        inside = rows[:, np.newaxis, np.newaxis] & columns[:, np.newaxis] & layers
        total += probabilities * inside[..., np.newaxis]
        weight += inside
        seen.append((probabilities.argmax(axis=-1).astype(np.uint8), inside))
        report(index + 1, len(views), f"view {index + 1} of {len(views)}")
    total /= np.maximum(weight, 1)[..., np.newaxis]
    return total, measure_stability(total.argmax(axis=-1), seen, scan.num_classes)


def measure_stability(
    average: NDArray[np.integer],
    seen: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    num_classes: int,
) -> NDArray[np.float64]:
    """Measure how stable each structure is between views.

    The stability of a structure is the mean, over the views, of the Dice coefficient of the view's
    labels with those of the average, within the view.

    Args:
        average: ``(P, I, R)`` labels.
        seen: For each view its ``(P, I, R)`` labels, and a mask of the voxels that it saw.
        num_classes: Number of classes, background included.

    Returns:
        ``(num_classes - 1,)`` values in [0, 1]; NaN where the average holds no such structure.
    """
    scores = np.full((len(seen), num_classes - 1), np.nan)
    for row, (labels, inside) in enumerate(seen):
        pairs = average[inside].astype(np.int64) * num_classes + labels[inside]
        confusion = np.bincount(pairs, minlength=num_classes**2)
        confusion = confusion.reshape(num_classes, num_classes)
        total = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:]
        np.divide(2.0 * np.diagonal(confusion)[1:], total, out=scores[row], where=total > 0)
    present = np.isin(np.arange(1, num_classes), np.unique(average))
    stability = np.full(num_classes - 1, np.nan)
    stability[present] = np.nanmean(scores[:, present], axis=0)
    return stability


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits into probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _triple(values: Any) -> Triple:  # noqa: ANN401 - any iterable of three numbers
    first, second, third = (float(value) for value in values)
    return first, second, third
