"""Label maps of data sets that number their structures otherwise, such as 205, 420, 500."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.labels import UNKNOWN, LabelTable


def translate(
    values: NDArray[Any],
    table: LabelTable,
    *,
    source: str,
    from_source: bool = False,
    partial: bool = False,
) -> NDArray[Any]:
    """Turn the values of a label map into labels, where the table has other source values.

    A label map may hold either. Where one number is a label of one structure and the source value
    of another, ``from_source`` decides.

    Args:
        values: Label map of whole numbers, of any shape and type.
        table: The labels and their source values.
        source: How an error refers to the label map, usually its file.
        from_source: Whether the label map is one of the data set.
        partial: Whether ``UNKNOWN`` may occur too, where nobody has labelled; it stays.

    Returns:
        The labels; the same array where nothing is to be translated.

    Raises:
        DataError: If the label map holds a value that is neither.
    """
    known = table.source_labels
    if all(value == label for value, label in known.items()):
        return values
    found = {int(value) for value in np.unique(values)}
    if partial and UNKNOWN not in known:
        found.discard(UNKNOWN)
    are_labels = found <= set(range(table.num_classes))
    are_stored = found <= known.keys()
    ambiguous = any(value < table.num_classes and value != label for value, label in known.items())
    if are_labels and not (from_source and (are_stored or ambiguous)):
        return values
    if not are_stored:
        expected = ", ".join(f"{v} ({table.structures[known[v]].key})" for v in sorted(known))
        strange = ", ".join(map(str, sorted(found - known.keys())[:8]))
        raise DataError(f"{source}: expected the values {expected}, found {strange}")
    labels = np.full(values.shape, UNKNOWN, np.uint8)
    for value, label in known.items():
        labels[values == value] = label
    return labels
