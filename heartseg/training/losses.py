"""What training minimises. References are label indices; nothing is one-hot on disk.

All losses take references ``(B, H, W)`` with values in ``[0, K)`` of any numeric type, and
probabilities ``(B, H, W, K)``, which the network gives in float32 whatever its inner precision.
"""

from typing import Any

import keras
from keras import KerasTensor, ops

LOSSES = ("categorical_crossentropy", "dice", "dice_crossentropy", "focal")
PACKAGE = "heartseg"
SMOOTH = 1.0
"""Added to both sides of the Dice fraction, in pixels: an absent structure costs nothing unless it
is predicted, and its gradient stays finite."""


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
    """A loss that needs to know how many classes a label index can mean."""

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
        """Return 1 - Dice of each structure, ``(K - 1,)``, over the pixels of the whole batch."""
        references = self._one_hot(references)[..., 1:]
        probabilities = probabilities[..., 1:]
        pixels = (0, 1, 2)
        shared = ops.sum(references * probabilities, axis=pixels)
        total = ops.sum(references, axis=pixels) + ops.sum(probabilities, axis=pixels)
        return 1.0 - (2.0 * shared + SMOOTH) / (total + SMOOTH)


@keras.saving.register_keras_serializable(PACKAGE)
class StructureDice(_LabelLoss):
    """1 - soft Dice, a mean over the structures; the background has no part in it.

    Dice is taken over the pixels of the whole batch: most structures are absent from most slices,
    and ``keras.losses.Dice``, which does not smooth, would count each absence as a full error.

    References:
        Milletari et al. (2016). V-Net. https://doi.org/10.1109/3DV.2016.79
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value a structure; the base class takes their mean."""
        return self._dice_loss(y_true, y_pred)


@keras.saving.register_keras_serializable(PACKAGE)
class DiceCrossentropy(_LabelLoss):
    """The sum of ``StructureDice`` and the categorical cross-entropy.

    References:
        Isensee et al. (2021). nnU-Net. https://doi.org/10.1038/s41592-020-01008-z
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value a pixel, whose mean is the sum of both losses."""
        crossentropy = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return crossentropy + ops.mean(self._dice_loss(y_true, y_pred))


@keras.saving.register_keras_serializable(PACKAGE)
class SparseFocalCrossentropy(_LabelLoss):
    """Keras's ``CategoricalFocalCrossentropy`` (alpha 0.25, gamma 2) for label indices.

    References:
        Lin et al. (2017). Focal loss. https://doi.org/10.1109/ICCV.2017.324
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value a pixel."""
        return keras.losses.categorical_focal_crossentropy(self._one_hot(y_true), y_pred)


@keras.saving.register_keras_serializable(PACKAGE)
class SharesDiceCrossentropy(keras.losses.Loss):
    """Dice and cross-entropy of logits against the share of a voxel that each class takes.

    A voxel on a border belongs to two structures, and so says the reference. The Dice semimetric
    is least where the probabilities equal the shares; the usual soft Dice would push them to 0 or
    1. For references of 0 and 1 the two are equal.

    References:
        Wang et al. (2023). Dice semimetric losses. https://doi.org/10.1007/978-3-031-43898-1_46
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value a voxel.

        Args:
            y_true: ``(B, P, I, R, K)`` shares, which sum to 1, or to less where a voxel is known
                in part only: it then counts for less.
            y_pred: ``(B, P, I, R, K)`` logits.
        """
        # Written out: TensorFlow's own gradient takes it that the shares of a voxel sum to 1, and
        # would drive the logits of unknown voxels away.
        crossentropy = -ops.sum(y_true * ops.log_softmax(y_pred), axis=-1)
        known = ops.sum(y_true, axis=-1, keepdims=True)
        shares, probabilities = y_true[..., 1:], (known * ops.softmax(y_pred))[..., 1:]
        voxels = (0, 1, 2, 3)
        total = ops.sum(shares + probabilities, axis=voxels)
        apart = ops.sum(ops.abs(shares - probabilities), axis=voxels)
        dice = 1.0 - (total - apart + SMOOTH) / (total + SMOOTH)
        return crossentropy + ops.mean(dice)
