"""Soft Dice plus categorical cross-entropy."""

import keras
from keras import KerasTensor, ops

from heartseg.training.label_loss import PACKAGE, LabelLoss


@keras.saving.register_keras_serializable(PACKAGE)
class DiceCrossentropy(LabelLoss):
    """The sum of ``StructureDice`` and the categorical cross-entropy.

    References:
        Isensee et al. (2021). nnU-Net. https://doi.org/10.1038/s41592-020-01008-z
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per pixel; their mean is the sum of both losses."""
        crossentropy = keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
        return crossentropy + ops.mean(self.dice_loss(y_true, y_pred))


def build(num_classes: int) -> keras.losses.Loss:
    """Return the loss for that many classes, background included."""
    return DiceCrossentropy(num_classes, name="dice_crossentropy")
