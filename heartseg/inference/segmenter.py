"""A trained model and how it is applied: from a scan or picture to a label map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heartseg.inference.hints import Absent, absent_values, redistribute
from heartseg.inference.postprocess import clean_up
from heartseg.inference.slice_prediction import Predict, predict_slices, predict_volume
from heartseg.modelfile.description import ModelDescription
from heartseg.progress import Report, silent
from heartseg.scans.intensity import find_clipping, find_window
from heartseg.scans.volume import Volume


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for a scan.

    Attributes:
        labels: ``(X, Y, Z)`` labels on the scan's own grid.
        stability: ``(num_classes - 1,)`` stability of each structure between views, 0 to 1; NaN
            where the prediction holds no such structure; None where the model views a scan once.
        confidence: ``(num_classes - 1,)`` mean probability of each structure within itself, NaN
            where there is none; None where it is not known.
        notices: What makes the prediction doubtful, in words.
        doubt: Voxels of each slice that are expected to be wrong, along each axis; None where that
            is not known.
    """

    labels: NDArray[np.uint8]
    stability: NDArray[np.float64] | None = None
    confidence: NDArray[np.float64] | None = None
    notices: tuple[str, ...] = ()
    doubt: tuple[NDArray[np.float64], ...] | None = None


class Segmenter(Protocol):
    """A trained model that segments scans, as many as one likes."""

    @property
    def model(self) -> ModelDescription:
        """What the model was trained for."""

    def segment(
        self, image: Volume, *, absent: Sequence[str] = (), report: Report = silent
    ) -> Prediction:
        """Segment a scan.

        Args:
            image: The scan.
            absent: Keys of structures that the patient does not have; they are never predicted.
            report: Called after each part with (parts done, parts, what was done).

        Raises:
            DataError: If the scan does not suit this model.
            ModelError: If the network's answer has another shape than expected.
        """


@dataclass(frozen=True)
class SliceSegmenter:
    """A model of slices and how it is applied.

    Attributes:
        predict: The network.
        model: What it was trained for.
        batch_size: Slices predicted at once.
        tile_overlap: Overlap of tiles, for slices larger than the network; None: no tiles.
        largest_component: Whether each structure of a volume keeps its largest connected component
            only, and others half as large; see ``clean_up``.
    """

    predict: Predict
    model: ModelDescription
    batch_size: int = 8
    tile_overlap: float | None = None
    largest_component: bool = False

    def segment_slices(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        absent: Sequence[str] = (),
        of_one_scan: bool = False,
    ) -> list[NDArray[np.uint8]]:
        """Return the ``(H, W)`` label map of each picture; see ``predict_slices``.

        Args:
            images: The pictures.
            absent: As for ``segment``; of all pictures.
            of_one_scan: As for ``predict_slices``.
        """
        return predict_slices(
            self._predict_without(absent),
            images,
            self.model.recipe,
            num_classes=self.model.table.num_classes,
            batch_size=self.batch_size,
            tile_overlap=self.tile_overlap,
            of_one_scan=of_one_scan,
        )

    def segment(
        self, image: Volume, *, absent: Sequence[str] = (), report: Report = silent
    ) -> Prediction:
        """Segment a scan; see ``predict_volume``."""
        table = self.model.table
        labels = predict_volume(
            self._predict_without(absent),
            image,
            self.model.recipe,
            num_classes=table.num_classes,
            batch_size=self.batch_size,
            tile_overlap=self.tile_overlap,
            report=report,
        )
        if self.largest_component:
            labels = clean_up(labels, table)
        return Prediction(labels, notices=tuple(self._find_notices(image)))

    def _predict_without(self, absent: Sequence[str]) -> Predict:
        values = absent_values(absent, self.model.table)
        return partial(_predict_without, predict=self.predict, absent=values)

    def _find_notices(self, image: Volume) -> Iterator[str]:
        """Yield what the network has not seen in training: a scan of other intensities."""
        recipe = self.model.recipe
        limits = find_window(image.voxels, recipe.window, recipe.window_range)
        clipping = find_clipping(image.voxels, limits)
        if clipping is not None:
            yield (
                f"{clipping}: the model was trained on scans of other intensities. Bring the scan "
                "to theirs, or train with prepare.window: percentile"
            )


def _predict_without(
    images: NDArray[np.float32], *, predict: Predict, absent: Absent
) -> NDArray[np.float32]:
    probabilities = predict(images)
    return redistribute(probabilities, absent) if absent else probabilities
