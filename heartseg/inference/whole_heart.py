"""From a scan of any size and orientation to a label map, with a network of whole hearts.

The box around the heart is found first. Then the network views it several times, each time through
a slightly different window. The average of the views is the prediction; how far they agree, the
stability, says how far each structure depends on the window. A second network, where there is one,
corrects the average on a finer grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from heartseg.inference.correction import Correct, correct_probabilities
from heartseg.inference.heart_search import search_heart
from heartseg.inference.hints import (
    NONE_ABSENT,
    Absent,
    HintedNetwork,
    absent_values,
    describe_doubt,
    redistribute,
)
from heartseg.inference.plausibility import (
    check_scan,
    find_notices,
    measure_confidence,
)
from heartseg.inference.postprocess import clean_up
from heartseg.inference.segmenter import Prediction
from heartseg.inference.suggestion import measure_doubt
from heartseg.inference.trimming import trim_air
from heartseg.inference.views import (
    VIEWS,
    WORKING_SIDE,
    Box,
    PredictVolume,
    View,
    ViewedScan,
    matrices_onto,
    to_box,
)
from heartseg.labels import LabelTable
from heartseg.modelfile.description import ModelDescription, SecondStage
from heartseg.progress import Report, silent
from heartseg.scans.axes import from_trained_axes, to_trained_axes
from heartseg.scans.nearest import resample_labels
from heartseg.scans.oblique import MOST_OBLIQUE_DEG, obliqueness_deg, straighten
from heartseg.scans.resampling import resample
from heartseg.scans.volume import Volume

_CHUNK_VOXELS = 1 << 17


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

    def segment(
        self, image: Volume, *, absent: Sequence[str] = (), report: Report = silent
    ) -> Prediction:
        """Segment a scan of a heart.

        Args:
            image: The scan, of any orientation, spacing and intensities.
            absent: Keys of structures that the patient does not have; they are never predicted.
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
            return self._segment(image, absent, report)

    def _segment(self, image: Volume, absent: Sequence[str], report: Report) -> Prediction:
        if obliqueness_deg(image.affine) > MOST_OBLIQUE_DEG:
            # A finer grid would cost time and show the views no more.
            straight = straighten(image, WORKING_SIDE)
            found = self._segment(straight, absent, report)
            labels = resample_labels(
                found.labels, straight.affine, to_affine=image.affine, shape=image.voxels.shape
            )
            return replace(found, labels=labels, doubt=None)

        table, calibration = self.model.table, self.model.calibration
        network = HintedNetwork(self.predict, absent_values(absent, table))
        heart = see_heart(network, image, self.model, views=self.views, report=report)
        probabilities, stage = heart.probabilities, self.model.second_stage
        if self.correct is not None and stage is not None:
            probabilities = heart.correct(
                self.correct, stage, probabilities, absent=network.absent, report=report
            )
        labels = heart.label(probabilities, table)
        notices = find_notices(labels, heart.stability, image.affine, calibration, table)
        doubts = describe_doubt(network.measure_doubt(heart.calls), table)
        doubt = heart.measure_doubt(heart.probabilities)
        confidence = measure_confidence(probabilities)
        return Prediction(labels, heart.stability, confidence, (*notices, *doubts), doubt)


@dataclass(frozen=True, eq=False)
class SeenHeart:
    """A scan in which the box around the heart was found, and what the network sees in the box.

    Attributes:
        scan: The part of the scan that shows anything, as the network views it.
        lit: Where this part lies in the scan, whose axes were turned as in training.
        shape: Voxels of the whole scan along these axes.
        affine: ``(4, 4)`` from the scan's own voxel indices to millimetres.
        view: The box around the heart, as a view of ``scan``.
        probabilities: ``(*FINE_GRID, K)`` over the box.
        stability: ``(K - 1,)`` stability between views; NaN where absent.
        calls: Which calls of the network were these views.
    """

    scan: ViewedScan
    lit: Box
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    view: View
    probabilities: NDArray[np.float32]
    stability: NDArray[np.float64]
    calls: slice

    def label(self, probabilities: NDArray[np.float32], table: LabelTable) -> NDArray[np.uint8]:
        """Return the ``(X, Y, Z)`` labels on the scan's own grid, cleaned up.

        Args:
            probabilities: ``(P, I, R, K)`` over the box, on any grid.
            table: The structures.
        """
        labels = np.zeros(self.shape, np.uint8)
        box = to_box(self.view, self.scan.shape)
        p, i, r, _ = probabilities.shape
        matrices = matrices_onto(box, self.scan.shape, self.view, (p, i, r))
        write_labels(labels[self.lit][box], probabilities, matrices)
        return from_trained_axes(clean_up(labels, table), self.affine)

    def correct(
        self,
        correct: Correct,
        stage: SecondStage,
        probabilities: NDArray[np.float32],
        *,
        absent: Absent = NONE_ABSENT,
        report: Report = silent,
    ) -> NDArray[np.float32]:
        """Correct probabilities by the second stage.

        Args:
            correct: The network of the second stage.
            stage: What it was trained for.
            probabilities: ``(P, I, R, K)`` over the box, on any grid.
            absent: Label values that never occur, and which takes the place of each.
            report: Called after each part.

        Returns:
            ``(*stage.grid, K)`` probabilities over the box.
        """
        close = self.scan.close_up(self.view, stage.grid)
        corrected = correct_probabilities(correct, stage, close, probabilities, report=report)
        return redistribute(corrected, absent) if absent else corrected

    def measure_doubt(
        self, probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return how many voxels of each slice are expected to be wrong, along each axis."""
        return measure_doubt(
            probabilities, self.view, lit=self.lit, shape=self.shape, affine=self.affine
        )


def see_heart(
    predict: PredictVolume,
    image: Volume,
    model: ModelDescription,
    *,
    views: Sequence[View] = VIEWS,
    drawn: NDArray[np.bool_] | None = None,
    report: Report = silent,
) -> SeenHeart:
    """Find the box around the heart and average views of it.

    Args:
        predict: The network.
        image: The scan, along the patient's axes or nearly so.
        model: What the network was trained for.
        views: The views that are averaged.
        drawn: ``(X, Y, Z)``, where a person drew structures: the box holds them, and where the
            network finds no heart, it lies around them.
        report: Called after each view.

    Raises:
        DataError: If there is no heart.
    """
    turned = to_trained_axes(image.voxels, image.affine)
    places = None if drawn is None else to_trained_axes(drawn, image.affine)
    lit = trim_air(turned)
    if places is not None and np.count_nonzero(places[lit]) < np.count_nonzero(places):
        lit = (slice(None), slice(None), slice(None))
    scan = ViewedScan(predict, turned[lit], model.grid, model.table.num_classes)
    found = search_heart(
        scan,
        views,
        model.calibration,
        drawn=None if places is None else places[lit],
        report=report,
    )
    shape = (turned.shape[0], turned.shape[1], turned.shape[2])
    return SeenHeart(
        scan,
        lit,
        shape,
        image.affine,
        found.view,
        found.probabilities,
        found.stability,
        found.calls,
    )


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
