"""What losses share: one-hot references, soft Dice, and the name under which Keras registers."""

from typing import Any

import keras
from keras import KerasTensor, ops

PACKAGE = "heartseg"
SMOOTH = 1.0
"""Pixels added to numerator and denominator of Dice: an absent structure adds nothing to the loss
unless it is predicted, and its gradient stays finite."""


class LabelLoss(keras.losses.Loss):
    """A loss that needs the number of classes to turn label values into one-hot vectors."""

    def __init__(
        self,
        num_classes: int,
        *,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.num_classes = num_classes

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the loss."""
        return {**super().get_config(), "num_classes": self.num_classes}

    def one_hot(self, references: KerasTensor) -> KerasTensor:
        """Return ``(B, H, W, K)`` zeros and ones from ``(B, H, W)`` label values."""
        return ops.one_hot(ops.cast(references, "int32"), self.num_classes, dtype=self.dtype)

    def dice_loss(self, references: KerasTensor, probabilities: KerasTensor) -> KerasTensor:
        """Return ``(K - 1,)`` values, 1 - Dice per structure, over all pixels of the batch."""
        references = self.one_hot(references)[..., 1:]
        probabilities = probabilities[..., 1:]
        pixels = (0, 1, 2)
        shared = ops.sum(references * probabilities, axis=pixels)
        total = ops.sum(references, axis=pixels) + ops.sum(probabilities, axis=pixels)
        return 1.0 - (2.0 * shared + SMOOTH) / (total + SMOOTH)
