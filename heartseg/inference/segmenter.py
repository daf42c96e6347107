"""A trained model and how it is applied: from a scan or picture to a label map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heartseg.inference.postprocess import clean_up
from heartseg.inference.slice_prediction import Predict, predict_slices, predict_volume
from heartseg.modelfile.description import ModelDescription
from heartseg.progress import Report, silent
from heartseg.scans.volume import Volume


@dataclass(frozen=True)
class Answer:
    """What a model makes of a scan.

    Attributes:
        labels: ``(X, Y, Z)`` labels on the scan's own grid.
        quality: ``(num_classes - 1,)`` agreement of several looks on each structure, NaN where the
            answer holds no such structure; None where there was one look only.
        notices: What makes the answer doubtful, in words.
    """

    labels: NDArray[np.uint8]
    quality: NDArray[np.float64] | None = None
    notices: tuple[str, ...] = ()


class Segmenter(Protocol):
    """A model that segments scans."""

    @property
    def model(self) -> ModelDescription:
        """What the model was trained for."""

    def segment(self, image: Volume, *, report: Report = silent) -> Answer:
        """Segment a scan.

        Args:
            image: The scan.
            report: Told after each part.

        Raises:
            DataError: If the scan is none for this model.
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
        largest_component: Whether only the largest piece of each structure of a volume is kept.
    """

    predict: Predict
    model: ModelDescription
    batch_size: int = 8
    tile_overlap: float | None = None
    largest_component: bool = False

    def segment_slices(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return the ``(H, W)`` label map of each picture; see ``predict_slices``."""
        return predict_slices(
            self.predict,
            images,
            self.model.recipe,
            num_classes=self.model.table.num_classes,
            batch_size=self.batch_size,
            tile_overlap=self.tile_overlap,
        )

    def segment(self, image: Volume, *, report: Report = silent) -> Answer:
        """Segment a scan; see ``predict_volume``."""
        table = self.model.table
        labels = predict_volume(
            self.predict,
            image,
            self.model.recipe,
            num_classes=table.num_classes,
            batch_size=self.batch_size,
            tile_overlap=self.tile_overlap,
            report=report,
        )
        if self.largest_component:
            labels = clean_up(labels, table)
        return Answer(labels)
