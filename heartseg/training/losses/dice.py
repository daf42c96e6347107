"""Soft Dice of the structures."""

import keras
from keras import KerasTensor

from heartseg.training.label_loss import PACKAGE, LabelLoss


@keras.saving.register_keras_serializable(PACKAGE)
class StructureDice(LabelLoss):
    """The mean over structures of 1 - soft Dice. Background is not counted.

    Dice is computed over the pixels of the whole batch: most structures are absent from most
    slices, and ``keras.losses.Dice``, which does not smooth, would count each absence as a full
    error.

    References:
        Milletari et al. (2016). V-Net. https://doi.org/10.1109/3DV.2016.79
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per structure; the base class takes their mean."""
        return self.dice_loss(y_true, y_pred)


def build(num_classes: int) -> keras.losses.Loss:
    """Return the loss for that many classes, background included."""
    return StructureDice(num_classes, name="dice")
