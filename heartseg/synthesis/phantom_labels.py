"""Label maps of phantoms in the values of any data set whose structures a phantom has."""

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.labels import HVSMR, LabelTable

MYOCARDIUM = "MYO"
"""Key of the muscle of the left ventricle."""
_VALUES = {structure.key: structure.value for structure in HVSMR.foreground}


def check_table(table: LabelTable) -> None:
    """Make sure that phantoms have every structure of a table.

    Raises:
        DataError: If they do not.
    """
    known = (*_VALUES, MYOCARDIUM)
    unknown = [s.key for s in table.foreground if s.key.upper() not in known]
    if unknown:
        raise DataError(
            f"synth: phantoms have no {', '.join(unknown)}; a label table for them may hold the "
            f"keys {', '.join(known)}"
        )


def store_labels(
    labels: NDArray[np.int16], myocardium: NDArray[np.bool_] | None, table: LabelTable
) -> NDArray[np.integer]:
    """Give a label map of a phantom the values by which a data set stores its structures.

    Args:
        labels: ``(X, Y, Z)`` labels of HVSMR-2.0; those that the table lacks become background.
        myocardium: ``(X, Y, Z)`` muscle of the left ventricle; None: without.
        table: The structures of the data set; see ``check_table``.

    Returns:
        ``(X, Y, Z)`` int16, or int32 where a value needs it.
    """
    background, *_ = (*table.structures[0].stored_values, 0)
    largest = max((value for s in table for value in s.stored_values), default=0)
    stored = np.full(labels.shape, background, np.int16 if largest < 2**15 else np.int32)
    for structure in table.foreground:
        key = structure.key.upper()
        if not structure.stored_values:
            continue
        if key == MYOCARDIUM:
            where = np.zeros(labels.shape, bool) if myocardium is None else myocardium
        else:
            where = labels == _VALUES[key]
        stored[where] = structure.stored_values[0]
    return stored
