"""Losses: what training minimises.

The losses for slices take references ``(B, H, W)``, label values in ``[0, K)`` of any numeric type,
and probabilities ``(B, H, W, K)``, which are float32 whatever the precision of the network. The
loss for whole hearts takes partial-volume fractions and logits.
"""

from typing import Any

import keras
from keras import KerasTensor, ops

LOSSES = ("categorical_crossentropy", "dice", "dice_crossentropy", "focal")
PACKAGE = "heartseg"
SMOOTH = 1.0
"""Pixels added to numerator and denominator of Dice: an absent structure adds nothing to the loss
unless it is predicted, and its gradient stays finite."""


def build_loss(name: str, num_classes: int) -> keras.losses.Loss:
    """Return a loss by its configured name.

    Args:
        name: ``categorical_crossentropy`` (as published), ``dice``, ``dice_crossentropy`` (their
            sum) or ``focal``.
        num_classes: Classes, background included.

    Raises:
        ValueError: If the name is not one of these.
    """
    if name == "categorical_crossentropy":
        return keras.losses.SparseCategoricalCrossentropy(name=name)
    if name == "dice":
        return StructureDice(num_classes, name=name)
    if name == "dice_crossentropy":
        return DiceCrossentropy(num_classes, name=name)
    if name == "focal":
        return SparseFocalCrossentropy(num_classes, name=name)
    raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")


class _LabelLoss(keras.losses.Loss):
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
        return {**super().get_config(), "num_classes": self.num_classes}

    def _one_hot(self, references: KerasTensor) -> KerasTensor:
        return ops.one_hot(ops.cast(references, "int32"), self.num_classes, dtype=self.dtype)

    def _dice_loss(self, references: KerasTensor, probabilities: KerasTensor) -> KerasTensor:
        """Return ``(K - 1,)`` values, 1 - Dice per structure, over all pixels of the batch."""
        references = self._one_hot(references)[..., 1:]
        probabilities = probabilities[..., 1:]
        pixels = (0, 1, 2)
        shared = ops.sum(references * probabilities, axis=pixels)
        total = ops.sum(references, axis=pixels) + ops.sum(probabilities, axis=pixels)
        return 1.0 - (2.0 * shared + SMOOTH) / (total + SMOOTH)


@keras.saving.register_keras_serializable(PACKAGE)
class StructureDice(_LabelLoss):
    """The mean over structures of 1 - soft Dice. Background is not counted.

    Dice is computed over the pixels of the whole batch: most structures are absent from most
    slices, and ``keras.losses.Dice``, which does not smooth, would count each absence as a full
    error.

    References:
        Milletari et al. (2016). V-Net. https://doi.org/10.1109/3DV.2016.79
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per structure; the base class takes their mean."""
        return self._dice_loss(y_true, y_pred)


@keras.saving.register_keras_serializable(PACKAGE)
class DiceCrossentropy(_LabelLoss):
    """The sum of ``StructureDice`` and the categorical cross-entropy.

    References:
        Isensee et al. (2021). nnU-Net. https://doi.org/10.1038/s41592-020-01008-z
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per pixel; their mean is the sum of both losses."""
        crossentropy = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return crossentropy + ops.mean(self._dice_loss(y_true, y_pred))


@keras.saving.register_keras_serializable(PACKAGE)
class SparseFocalCrossentropy(_LabelLoss):
    """Keras's ``CategoricalFocalCrossentropy`` (alpha 0.25, gamma 2) for label values.

    References:
        Lin et al. (2017). Focal loss. https://doi.org/10.1109/ICCV.2017.324
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per pixel."""
        return keras.losses.categorical_focal_crossentropy(self._one_hot(y_true), y_pred)


# Registered under its first name, which is in the files of runs to be resumed.
@keras.saving.register_keras_serializable(PACKAGE, name="SharesDiceCrossentropy")
class PartialVolumeDiceCrossentropy(keras.losses.Loss):
    """Dice plus cross-entropy of logits against partial-volume fractions.

    A voxel on a border belongs to two structures, and its reference says how much to each. The Dice
    semimetric is smallest where the probabilities equal the fractions; the usual soft Dice would
    push them to 0 or 1. For fractions of 0 and 1 the two are equal.

    References:
        Wang et al. (2023). Dice semimetric losses. https://doi.org/10.1007/978-3-031-43898-1_46
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per voxel.

        Args:
            y_true: ``(B, P, I, R, K)`` partial-volume fractions. They sum to 1 per voxel, or to
                less where only a part of a voxel is labelled: such a voxel counts less.
            y_pred: ``(B, P, I, R, K)`` logits.
        """
        # Not TensorFlow's own function: its gradient assumes that the fractions of a voxel sum to
        # 1, and would change the logits of unlabelled voxels without end.
        crossentropy = -ops.sum(y_true * ops.log_softmax(y_pred), axis=-1)
        known = ops.sum(y_true, axis=-1, keepdims=True)
        fractions, probabilities = y_true[..., 1:], (known * ops.softmax(y_pred))[..., 1:]
        voxels = (0, 1, 2, 3)
        total = ops.sum(fractions + probabilities, axis=voxels)
        distance = ops.sum(ops.abs(fractions - probabilities), axis=voxels)
        dice = 1.0 - (total - distance + SMOOTH) / (total + SMOOTH)
        return crossentropy + ops.mean(dice)
