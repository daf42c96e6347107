"""Focal cross-entropy."""

import keras
from keras import KerasTensor

from heartseg.training.label_loss import PACKAGE, LabelLoss


@keras.saving.register_keras_serializable(PACKAGE)
class SparseFocalCrossentropy(LabelLoss):
    """Keras's ``CategoricalFocalCrossentropy`` (alpha 0.25, gamma 2) for label values.

    References:
        Lin et al. (2017). Focal loss. https://doi.org/10.1109/ICCV.2017.324
    """

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return one value per pixel."""
        return keras.losses.categorical_focal_crossentropy(self.one_hot(y_true), y_pred)


def build(num_classes: int) -> keras.losses.Loss:
    """Return the loss for that many classes, background included."""
    return SparseFocalCrossentropy(num_classes, name="focal")
