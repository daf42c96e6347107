"""The loss of a network that adapts to one scan, of which a part is drawn."""

from collections.abc import Mapping

import keras
import numpy as np
from keras import KerasTensor, ops

from heartseg.training.partial_volume_loss import PartialVolumeDiceCrossentropy

IMPOSSIBLE = -1e4
"""Added to the logits of absent structures: no probability, and no gradient."""


class AdaptationLoss(keras.losses.Loss):
    """Fractions where something is drawn, and a soft answer to keep near to everywhere else."""

    def __init__(self, num_classes: int, *, absent: Mapping[int, int | None], keep: float) -> None:
        """Describe the loss.

        Args:
            num_classes: Classes, background included.
            absent: Label values that never occur, and which takes the place of each; None: all
                others do.
            keep: How much the soft answer counts beside what is drawn.
        """
        super().__init__(name="adaptation", reduction="sum_over_batch_size")
        self._num_classes, self._keep = num_classes, keep
        self._drawn = PartialVolumeDiceCrossentropy(reduction="none")
        offsets = np.zeros(num_classes, np.float32)
        offsets[list(absent)] = IMPOSSIBLE
        self._offsets, self._absent = offsets, absent

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per voxel.

        Args:
            y_true: ``(B, P, I, R, 2 K)``: first the drawn fractions, which sum to 0 where nothing
                is drawn; then the soft answer, times the weight of each voxel.
            y_pred: ``(B, P, I, R, K)`` logits.
        """
        logits = self._without_absent(y_pred)
        drawn, soft = y_true[..., : self._num_classes], y_true[..., self._num_classes :]
        known = ops.sum(drawn, axis=-1)
        # Few voxels are drawn, and they count as much as if all were.
        share = ops.mean(known) + 1e-4
        log_probabilities = ops.log_softmax(logits)
        crossentropy = -ops.sum(drawn * log_probabilities, axis=-1)
        both = self._drawn(drawn, logits)
        dice = both - crossentropy
        kept = -ops.sum(soft * log_probabilities, axis=-1)
        return crossentropy / share + dice + self._keep * kept

    def _without_absent(self, logits: KerasTensor) -> KerasTensor:
        columns = [logits[..., value] for value in range(self._num_classes)]
        for value, heir in self._absent.items():
            if heir is not None:
                columns[heir] = ops.logaddexp(columns[heir], columns[value])
        return ops.stack(columns, axis=-1) + self._offsets
