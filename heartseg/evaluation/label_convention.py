"""Predictions with other label values: detected by their overlap, with a mapping as a hint."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from heartseg.labels import LabelTable

WHOLE_HEART_OVERLAPS = 0.6
"""Smallest Dice of the whole heart at which both label maps show the same heart."""
STRUCTURES_GAIN = 0.3
"""Smallest gain of the mean Dice by another order of the labels that counts as a hint."""


def suggest_mapping(confusions: Sequence[NDArray[np.int64]]) -> dict[int, int]:
    """Find the labels with which the predictions would match the references.

    Args:
        confusions: ``(K, K)`` voxels per case; rows are reference labels, columns predicted ones.

    Returns:
        Reference label by predicted label, for the labels that differ. Empty if the labels match
        already, or if they match in no order.

    References:
        Kuhn (1955). The Hungarian method. https://doi.org/10.1002/nav.3800020109
    """
    if not confusions:
        return {}
    counts = np.sum(confusions, axis=0)
    heart = counts[1:, 1:].sum()
    whole = 2 * heart / max(counts[1:].sum() + counts[:, 1:].sum(), 1)
    if whole < WHOLE_HEART_OVERLAPS:
        return {}
    # Dice of each reference label (row) with each predicted one (column).
    totals = counts.sum(axis=1)[1:, np.newaxis] + counts.sum(axis=0)[np.newaxis, 1:]
    dice = 2 * counts[1:, 1:] / np.maximum(totals, 1)
    present = counts.sum(axis=1)[1:] > 0
    rows, columns = linear_sum_assignment(-dice)
    as_they_are = np.diagonal(dice)[present].mean()
    reordered = dice[rows, columns][present[rows]].mean()
    if reordered - as_they_are < STRUCTURES_GAIN:
        return {}
    return {
        int(column) + 1: int(row) + 1
        for row, column in sorted(zip(rows, columns, strict=True), key=lambda pair: pair[1])
        if row != column and dice[row, column] > 0
    }


def describe_mapping(mapping: Mapping[int, int], table: LabelTable) -> str:
    """Return the hint that predictions seem to use other label values, in words."""
    option = ",".join(f"{given}={meant}" for given, meant in mapping.items())
    keys = {structure.value: structure.key for structure in table.structures}
    labels = ", ".join(f"{given} is {keys[meant]}" for given, meant in mapping.items())
    return (
        "The whole heart overlaps, but the structures do not: the predictions seem to use other "
        f"label values ({labels}). If so, score them again with --map {option}."
    )
