"""Overlap of two label maps: counts of voxels, and the measures computed from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Overlap:
    """How two masks overlap.

    A measure without a denominator is NaN: there is nothing to score.

    Attributes:
        dice: ``2 |P and R| / (|P| + |R|)``.
        iou: ``|P and R| / |P or R|``, the Jaccard index.
        precision: ``|P and R| / |P|``, the fraction of the prediction that is right.
        recall: ``|P and R| / |R|``, the fraction of the reference that is found.
    """

    dice: float
    iou: float
    precision: float
    recall: float


def confusion_matrix(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Count the voxels of each pair of labels.

    Args:
        prediction: Label map, any shape, values in ``[0, num_classes)``.
        reference: Label map of the same shape and range.
        num_classes: Number of labels, background (0) included.

    Returns:
        ``(num_classes, num_classes)`` counts; rows are labels of the reference, columns of the
        prediction. All zero for empty maps.

    Raises:
        ValueError: If the shapes differ or a value is outside the range.
    """
    _check_label_maps(prediction, reference, num_classes)
    # 16 bits hold every pair of at most 256 labels and take a quarter of the memory of an index.
    pairs = reference.astype(np.uint16)
    pairs *= np.uint16(num_classes)
    pairs += prediction.astype(np.uint16)
    counts = np.bincount(pairs.ravel(), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def overlap_of_counts(*, shared: int, prediction: int, reference: int) -> Overlap:
    """Compute the overlap of two masks from their numbers of voxels.

    Args:
        shared: Voxels in both masks.
        prediction: Voxels in the prediction.
        reference: Voxels in the reference.

    Returns:
        The measures. All are NaN if both masks are empty, never 1.

    References:
        Dice (1945). Ecology 26(3). https://doi.org/10.2307/1932409
        Taha and Hanbury (2015). BMC Medical Imaging 15:29.
        https://doi.org/10.1186/s12880-015-0068-x
    """
    union = prediction + reference - shared
    return Overlap(
        dice=_ratio(2 * shared, prediction + reference),
        iou=_ratio(shared, union),
        precision=_ratio(shared, prediction),
        recall=_ratio(shared, reference),
    )


def dice_per_label(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], num_classes: int
) -> NDArray[np.float64]:
    """Compute the Dice coefficient of each foreground label.

    Args:
        prediction: Label map, any shape, values in ``[0, num_classes)``.
        reference: Label map of the same shape and range.
        num_classes: Number of labels, background (0) included.

    Returns:
        ``(num_classes - 1,)`` values in ``[0, 1]``, entry ``i`` for label ``i + 1``. NaN where
        neither map holds the label.

    Raises:
        ValueError: If the shapes differ or a value is outside the range.

    References:
        Dice (1945). Ecology 26(3). https://doi.org/10.2307/1932409
    """
    confusion = confusion_matrix(prediction, reference, num_classes)
    total = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:]
    dice = np.full(num_classes - 1, np.nan)
    np.divide(2.0 * np.diagonal(confusion)[1:], total, out=dice, where=total > 0)
    return dice


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _check_label_maps(
    prediction: NDArray[np.integer], reference: NDArray[np.integer], num_classes: int
) -> None:
    if prediction.shape != reference.shape:
        raise ValueError(
            f"expected label maps of the same shape, got {prediction.shape} and {reference.shape}"
        )
    if not 2 <= num_classes <= 256:
        raise ValueError(f"expected 2 to 256 classes, got {num_classes}")
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"{name}: expected labels 0 to {num_classes - 1}, got {labels.min()} to "
                f"{labels.max()}"
            )
