"""Metrics: what is recorded in addition to the loss.

They take the same references and probabilities as the losses for slices.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import KerasTensor, ops

from heartseg.labels import LabelTable
from heartseg.training.label_loss import PACKAGE

METRICS = ("dice_coef_multiclass", "dice_per_structure", "accuracy")
MACRO_AVERAGE_KEY = "mean"


def build_metrics(names: Sequence[str], table: LabelTable) -> list[keras.metrics.Metric]:
    """Return metrics by their configured names, in that order.

    Args:
        names: Any of ``dice_coef_multiclass`` (as published), ``dice_per_structure`` and
            ``accuracy`` (fraction of pixels whose most probable class is right).
        table: The structures, whose keys name the metrics.

    Raises:
        ValueError: If a name is not one of these.
    """
    builders: dict[str, Callable[[], keras.metrics.Metric]] = {
        "dice_coef_multiclass": DiceCoefMulticlass,
        "dice_per_structure": lambda: DicePerStructure(
            [structure.key for structure in table.foreground]
        ),
        "accuracy": lambda: keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
    }
    unknown = [name for name in names if name not in builders]
    if unknown:
        raise ValueError(f"metrics: expected any of {', '.join(METRICS)}, got {unknown[0]!r}")
    return [builders[name]() for name in names]


@keras.saving.register_keras_serializable(PACKAGE)
def dice_coef_multiclass(references: KerasTensor, probabilities: KerasTensor) -> KerasTensor:
    """Compute the published measure of each slice: one soft Dice over all classes at once.

    With one-hot references r and probabilities p, summed over all pixels and all classes (also
    background): ``(2 sum(r p) + 1) / (sum(r) + sum(p) + 1)``. Both sums of the denominator equal
    the number of pixels, so the measure is in effect the mean probability of the right class. Nine
    of ten pixels are background: a prediction without any heart scores about 0.91, and a missing
    vena cava hardly changes the value. It exists to be compared with published figures; use
    ``DicePerStructure`` to judge a segmentation.

    Args:
        references: ``(B, H, W)`` labels.
        probabilities: ``(B, H, W, K)``.

    Returns:
        ``(B,)`` values in (0, 1].
    """
    indices = ops.expand_dims(ops.cast(references, "int32"), -1)
    right = ops.take_along_axis(probabilities, indices, axis=-1)
    shared = ops.sum(right, axis=(1, 2, 3))
    num_pixels = ops.sum(ops.ones_like(right), axis=(1, 2, 3))
    total = num_pixels + ops.sum(probabilities, axis=(1, 2, 3))
    return (2.0 * shared + 1.0) / (total + 1.0)


@keras.saving.register_keras_serializable(PACKAGE)
class DiceCoefMulticlass(keras.metrics.Mean):
    """The mean over slices of ``dice_coef_multiclass``, where its limits are described."""

    def __init__(self, name: str = "dice_coef_multiclass", dtype: str | None = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(
        self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: KerasTensor | None = None
    ) -> None:
        """Add the slices of a batch."""
        super().update_state(dice_coef_multiclass(y_true, y_pred), sample_weight)


@keras.saving.register_keras_serializable(PACKAGE)
class DicePerStructure(keras.metrics.Metric):
    """Dice of each structure over all pixels of an epoch, and their macro average.

    Predictions are the most probable classes. Pixels are counted over the whole epoch before Dice
    is computed, so slices without a structure have no effect on its Dice. The result is a
    dictionary with ``dice_LV``, ..., ``dice_mean`` (the macro average), which Keras logs entry by
    entry. An entry is NaN where neither predictions nor references hold the structure; the macro
    average leaves it out, and is NaN if all are NaN.

    The counts are float32, as all sums of Keras: over some thousand batches that changes a Dice by
    at most 1e-4.
    """

    def __init__(
        self, keys: Sequence[str], name: str = "dice_per_structure", dtype: str | None = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.keys = tuple(keys)
        shape = (len(self.keys),)
        self.shared = self.add_variable(shape, "zeros", name="shared")
        self.total = self.add_variable(shape, "zeros", name="total")

    def update_state(
        self, y_true: KerasTensor, y_pred: KerasTensor, sample_weight: KerasTensor | None = None
    ) -> None:
        """Add the pixels of a batch.

        Raises:
            ValueError: If weights are given: pixels are counted, not weighted.
        """
        if sample_weight is not None:
            raise ValueError("DicePerStructure counts pixels and takes no sample_weight")
        references = ops.cast(y_true, "int32")
        predictions = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        num_classes = len(self.keys) + 1
        pixels = (0, 1, 2)
        right = ops.where(references == predictions, references, 0)
        # Column 0 holds the pixels where both are background and those where they differ.
        shared, in_references, in_predictions = (
            ops.sum(ops.one_hot(labels, num_classes, dtype=self.dtype), axis=pixels)[1:]
            for labels in (right, references, predictions)
        )
        self.shared.assign_add(shared)
        self.total.assign_add(in_references + in_predictions)

    def result(self) -> dict[str, KerasTensor]:
        """Return Dice as ``dice_KEY`` and the macro average as ``dice_mean``."""
        # JAX's functions do not accept a variable in place of its value.
        shared, total = (ops.convert_to_tensor(count) for count in (self.shared, self.total))
        seen = total > 0
        dice = 2.0 * shared / ops.where(seen, total, 1.0)
        num_seen = ops.sum(ops.cast(seen, self.dtype))
        # 0 / 0 gives NaN, the mean over nothing.
        mean = ops.sum(ops.where(seen, dice, 0.0)) / num_seen
        entries = ops.where(seen, dice, float("nan"))
        return {
            **{f"dice_{key}": entries[index] for index, key in enumerate(self.keys)},
            f"dice_{MACRO_AVERAGE_KEY}": mean,
        }

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds this metric."""
        return {**super().get_config(), "keys": list(self.keys)}
