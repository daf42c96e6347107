"""From a scan of any size and orientation to a label map, with a network of whole hearts.

The box around the heart is found first. Then the network views it several times, each time through
a slightly different window. The average of the views is the prediction; how far they agree, the
stability, says how far each structure depends on the window. A second network, where there is one,
corrects the average on a finer grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from heartseg.errors import DataError
from heartseg.inference.correction import Correct, correct_probabilities
from heartseg.inference.plausibility import check_scan, find_notices, mean_stability
from heartseg.inference.postprocess import clean_up
from heartseg.inference.segmenter import Prediction
from heartseg.inference.views import (
    VIEWS,
    WORKING_SIDE,
    PredictVolume,
    View,
    ViewedScan,
    average_views,
    find_box,
    matrices_onto,
    to_box,
    trim_air,
)
from heartseg.modelfile.description import Calibration, ModelDescription
from heartseg.progress import Report, silent
from heartseg.scans.axes import from_trained_axes, to_trained_axes
from heartseg.scans.nearest import resample_labels
from heartseg.scans.oblique import obliqueness_deg, straighten
from heartseg.scans.resampling import resample
from heartseg.scans.volume import Volume

MOST_OBLIQUE_DEG = 20.0
"""Training turned hearts by less; a scan that is turned further is resampled straight first."""
STARTS = (0.65, 0.45)
"""Fractions of the scan's middle where the search starts again if nothing sure was found."""
_CHUNK_VOXELS = 1 << 21


@dataclass(frozen=True)
class WholeHeartSegmenter:
    """A network that sees a whole heart at once, and how it is applied.

    Attributes:
        predict: The network.
        model: What it was trained for.
        views: The views that are averaged.
        correct: The network of the second stage, which ``model.second_stage`` describes; None: the
            average of the views is the prediction.
    """

    predict: PredictVolume
    model: ModelDescription
    views: Sequence[View] = VIEWS
    correct: Correct | None = None

    def segment(self, image: Volume, *, report: Report = silent) -> Prediction:
        """Segment a scan of a heart.

        Args:
            image: The scan, of any orientation, spacing and intensities.
            report: Called after each view and each part of the second stage with (parts done,
                parts, what was done).

        Raises:
            DataError: If the scan cannot be of a heart by MR.
            ModelError: If the network's answer has another shape than expected.
        """
        check_scan(image)
        # NumPy's products here are many and small: further threads would wait busily for each
        # other, at several times the processor time.
        with threadpool_limits(1, user_api="blas"):
            return self._segment(image, report)

    def _segment(self, image: Volume, report: Report) -> Prediction:
        if obliqueness_deg(image.affine) > MOST_OBLIQUE_DEG:
            # A finer grid would cost time and show the views no more.
            straight = straighten(image, WORKING_SIDE)
            found = self._segment(straight, report)
            labels = resample_labels(
                found.labels, straight.affine, to_affine=image.affine, shape=image.voxels.shape
            )
            return Prediction(labels, found.stability, found.notices)

        turned = to_trained_axes(image.voxels, image.affine)
        table, calibration = self.model.table, self.model.calibration
        lit = trim_air(turned)
        scan = ViewedScan(self.predict, turned[lit], self.model.grid, table.num_classes)
        view, probabilities, stability = _find_and_average(scan, self.views, calibration, report)
        stage = self.model.second_stage
        if self.correct is not None and stage is not None:
            close = scan.close_up(view, stage.grid)
            probabilities = correct_probabilities(
                self.correct, stage, close, probabilities, report=report
            )
        labels = np.zeros(turned.shape, np.uint8)
        box = to_box(view, scan.shape)
        p, i, r, _ = probabilities.shape
        matrices = matrices_onto(box, scan.shape, view, (p, i, r))
        write_labels(labels[lit][box], probabilities, matrices)
        labels = clean_up(labels, table)
        labels = from_trained_axes(labels, image.affine)
        notices = find_notices(labels, stability, image.affine, calibration, table)
        return Prediction(labels, stability, tuple(notices))


def _find_and_average(
    scan: ViewedScan, views: Sequence[View], calibration: Calibration | None, report: Report
) -> tuple[View, NDArray[np.float32], NDArray[np.float64]]:
    """Return the box around the heart with the averaged probabilities and their stability.

    The intensity of blood in this box is kept in ``scan.level``.

    Raises:
        DataError: If there is no heart.
    """
    best = None
    estimate = level = scan.level
    for start in (1.0, *STARTS):
        scan.level = estimate
        box = find_box(scan, start=View((start, start, start)), report=report)
        if box is None:
            continue
        probabilities, stability = average_views(scan, box, views, report=report)
        if np.isnan(stability).all():
            continue
        if best is None or mean_stability(stability) > mean_stability(best[2]):
            best, level = (box, probabilities, stability), scan.level
        # Without a calibration nothing says that another start would be better.
        if calibration is None or mean_stability(stability) >= calibration.sure:
            break
    hopeless = 0.0 if calibration is None else calibration.hopeless
    if best is None or mean_stability(best[2]) < hopeless:
        found = (
            "nothing like a heart"
            if best is None
            else f"its views agree only to {mean_stability(best[2]):.2f}"
        )
        raise DataError(
            f"found no heart ({found}); this model knows MR of the heart with bright blood only"
        )
    scan.level = level
    return best


def write_labels(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    matrices: Sequence[NDArray[np.float32]],
) -> None:
    """Bring probabilities to a finer grid and write the most probable class of each voxel.

    A few layers at a time: all classes at full resolution would be far larger than the scan.

    Args:
        labels: ``(P, I, R)``, written in place.
        probabilities: ``(p, i, r, K)``.
        matrices: The weights that sample them at the voxels of ``labels``, one per axis.
    """
    rows, *others = matrices
    depth = max(1, _CHUNK_VOXELS // max(1, labels[0].size))
    for start in range(0, len(labels), depth):
        part = resample(probabilities, [rows[start : start + depth], *others])
        labels[start : start + depth] = part.argmax(axis=-1)
