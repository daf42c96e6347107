"""How a network views a scan, and the average of several views of it.

Hearts of newborns and of adults look alike to the network, which was trained on boxes around them,
stretched to one grid whatever their size in mm. Arrays here have the axes toward posterior,
inferior and right ("PIR"), like the training data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.progress import Report, silent
from heartseg.scans.intensity import normalize, rough_level
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
            as_triple(z * o for z, o in zip(self.zoom, outer.zoom, strict=True)),
            as_triple(
                s * z + t for s, z, t in zip(self.shift, outer.zoom, outer.shift, strict=True)
            ),
        )


VIEWS = (
    View(),
    View((1.08, 1.08, 1.08), (0.01, 0.01, -0.01)),
    View((0.93, 0.93, 0.93), (-0.01, 0.01, 0.01)),
    View((1.0, 0.95, 1.06), (0.02, -0.02, 0.015)),
    View((1.05, 1.0, 0.95), (-0.02, 0.015, -0.02)),
)
"""The views that are averaged."""


def describe_views() -> dict[str, Any]:
    """Return what another program needs to view a scan in the same way, as plain values."""
    return {
        "heart": list(HEART_FRACTION),
        "grid": list(FINE_GRID),
        "views": [[list(view.zoom), list(view.shift)] for view in VIEWS],
    }


class ViewedScan:
    """A scan, and the network that views it.

    Attributes:
        shape: Voxels of the scan.
        grid: Voxels that the network sees of each view.
        num_classes: Classes that the network tells apart, background included.
        level: Intensity of blood; an estimate until ``find_box`` has found the heart.
        num_calls: Calls of the network so far.
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
        self.num_calls = 0
        self._finest, self._floor = voxels, np.float32(0)
        matrices = [sampling_matrix(min(side, WORKING_SIDE), side) for side in self.shape]
        shrinks = max(self.shape) > WORKING_SIDE
        self._voxels = resample(voxels, matrices) if shrinks else voxels.astype(np.float32)
        # MR has no negative intensities: where there are some, 0 means something else.
        floor = float(np.percentile(self._voxels[::2, ::2, ::2], 1))
        if floor < -1e-2 * self._voxels.max():
            self._voxels = self._voxels - np.float32(floor)
            self._floor = np.float32(floor)
        self._voxels = np.maximum(self._voxels, 0)
        self.level = rough_level(self._voxels)

    def image(self, view: View) -> NDArray[np.float32]:
        """Return what a view of the scan shows, on the network's grid; blood is near 1."""
        matrices = [
            sampling_matrix(wanted, side, zoom=zoom, shift=shift)
            for wanted, side, zoom, shift in zip(
                self.grid, self._voxels.shape, view.zoom, view.shift, strict=True
            )
        ]
        return normalize(resample(self._voxels, matrices), self.level)

    def close_up(self, view: View, shape: tuple[int, int, int]) -> NDArray[np.float32]:
        """Return what a view shows on a grid of any shape, from the scan's own voxels.

        Other views are cut from a scan of ``WORKING_SIDE`` voxels per axis at most, which would
        blur a small heart in a large scan.
        """
        parts, matrices = [], []
        for wanted, side, zoom, shift in zip(shape, self.shape, view.zoom, view.shift, strict=True):
            weights = sampling_matrix(wanted, side, zoom=zoom, shift=shift)
            used = np.flatnonzero(weights.any(axis=0))
            parts.append(slice(used[0], used[-1] + 1))
            matrices.append(weights[:, parts[-1]])
        inner = self._finest[tuple(parts)].astype(np.float32)
        return normalize(resample(np.maximum(inner - self._floor, 0), matrices), self.level)

    def probabilities(self, view: View) -> NDArray[np.float32]:
        """Return the ``(*grid, K)`` probabilities of what a view of the scan shows.

        Raises:
            ModelError: If the network's answer has another shape.
        """
        return self.classify(self.image(view))

    def classify(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ``(*grid, K)`` probabilities of an image on the network's grid.

        Raises:
            ModelError: If the network's answer has another shape.
        """
        logits = self._predict(image[np.newaxis, ..., np.newaxis])
        self.num_calls += 1
        expected = (1, *self.grid, self.num_classes)
        if logits.shape != expected:
            raise ModelError(
                f"expected logits of shape {expected} from the model, got {logits.shape}"
            )
        return softmax(logits[0])


def to_box(view: View, shape: tuple[int, int, int]) -> Box:
    """Return the voxels of a volume that a view shows."""
    first, second, third = (
        slice(
            max(0, round((0.5 + shift - zoom / 2) * side)),
            min(side, max(1, round((0.5 + shift + zoom / 2) * side))),
        )
        for side, zoom, shift in zip(shape, view.zoom, view.shift, strict=True)
    )
    return first, second, third


def matrices_onto(
    box: Box, shape: tuple[int, int, int], view: View, given: tuple[int, int, int]
) -> list[NDArray[np.float32]]:
    """Return the weights that sample a grid over a view at the voxels of a box.

    Args:
        box: Voxels of a volume.
        shape: Voxels of the whole volume.
        view: The part of the volume that the grid covers.
        given: Points of the grid.

    Returns:
        One matrix per axis, as of ``sampling_matrix``.
    """
    return [
        sampling_matrix(
            part.stop - part.start,
            count,
            zoom=(part.stop - part.start) / side / zoom,
            shift=((part.start + part.stop) / 2 / side - 0.5 - shift) / zoom,
        )
        for part, side, zoom, shift, count in zip(
            box, shape, view.zoom, view.shift, given, strict=True
        )
    ]


def average_views(
    scan: ViewedScan, box: View, views: Sequence[View] = VIEWS, *, report: Report = silent
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Average the probabilities of several views of a box, and measure how far the views agree.

    Args:
        scan: The scan.
        box: The box around the heart, as a view of the scan.
        views: The views, each relative to the box.
        report: Called after each view.

    Returns:
        ``(*FINE_GRID, K)`` probabilities over the box, and the stability as in
        ``measure_stability``.
    """
    total = np.zeros((*FINE_GRID, scan.num_classes), np.float32)
    weight = np.zeros(FINE_GRID, np.float32)
    seen = []
    for index, view in enumerate(views):
        probabilities = resample(
            scan.probabilities(view.within(box)),
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


def as_triple(values: Any) -> Triple:  # noqa: ANN401 - any iterable of three numbers
    """Return three numbers."""
    first, second, third = (float(value) for value in values)
    return first, second, third
