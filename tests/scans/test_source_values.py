import numpy as np
import pytest

from heartseg.errors import DataError
from heartseg.label_tables import ACDC, MMWHS
from heartseg.labels import HVSMR
from heartseg.scans.source_values import translate

SWAPPED = HVSMR.stored_as({"background": (0,), "LV": (2,), "RV": (1,)})
MERGED = MMWHS.stored_as({"background": (0, 7), "LA": (420, 421)})


@pytest.mark.parametrize(
    ("table", "values", "from_source", "expected"),
    [
        (MMWHS, [0, 205, 420, 500, 550, 600, 820, 850], True, list(range(8))),
        (MMWHS, [0, 205, 850], False, [0, 1, 7]),
        # Label maps that heartseg wrote, or that were converted before.
        (MMWHS, [0, 1, 7], False, [0, 1, 7]),
        (MMWHS, [0, 1, 7], True, [0, 1, 7]),
        (SWAPPED, [0, 1, 2], True, [0, 2, 1]),
        (SWAPPED, [0, 1, 2], False, [0, 1, 2]),
        (MERGED, [0, 7, 420, 421], True, [0, 0, 2, 2]),
    ],
)
def test_values_of_a_data_set_become_labels(table, values, from_source, expected):
    stored = np.array(values, np.int16).reshape(1, -1)

    labels = translate(stored, table, source="a.nii", from_source=from_source)

    np.testing.assert_array_equal(labels, np.reshape(expected, (1, -1)))
    np.testing.assert_array_equal(stored, np.reshape(values, (1, -1)))


@pytest.mark.parametrize("table", [HVSMR, ACDC])
def test_a_data_set_with_the_values_of_the_table_is_not_copied(table):
    stored = np.array([0, 3, 200])
    assert translate(stored, table, source="a.nii", from_source=True) is stored


@pytest.mark.parametrize(
    ("table", "values", "strange"),
    [(MMWHS, [0, 205, 421], "421"), (MMWHS, [1, 205], "1"), (SWAPPED, [0, 1, 5], "5")],
)
def test_a_value_that_means_nothing_is_an_error_that_names_it(table, values, strange):
    with pytest.raises(DataError, match=rf"a.nii: expected the values 0 .*, found {strange}$"):
        translate(np.array(values), table, source="a.nii", from_source=True)


def test_voxels_that_nobody_labelled_stay_so():
    stored = np.array([0, 255, 820], np.int16)
    labels = translate(stored, MMWHS, source="a.nii", from_source=True, partial=True)
    assert labels.tolist() == [0, 255, 6]
    with pytest.raises(DataError, match="found 255"):
        translate(stored, MMWHS, source="a.nii", from_source=True)
