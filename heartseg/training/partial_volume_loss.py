"""The losses of networks of whole hearts: of the first stage, and of patches for the second."""

import keras
from keras import KerasTensor, ops

from heartseg.training.label_loss import PACKAGE, SMOOTH


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
        crossentropy, dice, _ = _measure(y_true, y_pred)
        return crossentropy + ops.mean(dice)


@keras.saving.register_keras_serializable(PACKAGE)
class PatchDiceCrossentropy(keras.losses.Loss):
    """The same for patches, which hold a few of the structures: Dice is that of those alone.

    An absent structure adds its cross-entropy only. Its Dice would be near 0 for a handful of
    voxels' worth of probability all over the patch, and outweigh what is there.
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per voxel; see ``PartialVolumeDiceCrossentropy``."""
        crossentropy, dice, sizes = _measure(y_true, y_pred)
        present = ops.cast(sizes > 0, dice.dtype)
        return crossentropy + ops.sum(present * dice) / ops.maximum(ops.sum(present), 1.0)


def _measure(
    y_true: KerasTensor, y_pred: KerasTensor
) -> tuple[KerasTensor, KerasTensor, KerasTensor]:
    """Return the cross-entropy per voxel, and 1 - Dice and the size of each structure."""
    # Not TensorFlow's own function: its gradient assumes that the fractions of a voxel sum to 1,
    # and would change the logits of unlabelled voxels without end.
    crossentropy = -ops.sum(y_true * ops.log_softmax(y_pred), axis=-1)
    known = ops.sum(y_true, axis=-1, keepdims=True)
    fractions, probabilities = y_true[..., 1:], (known * ops.softmax(y_pred))[..., 1:]
    voxels = (0, 1, 2, 3)
    total = ops.sum(fractions + probabilities, axis=voxels)
    distance = ops.sum(ops.abs(fractions - probabilities), axis=voxels)
    dice = 1.0 - (total - distance + SMOOTH) / (total + SMOOTH)
    return crossentropy, dice, ops.sum(fractions, axis=voxels)
