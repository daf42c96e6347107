import numpy as np
import pytest

from heartseg.evaluation.label_convention import describe_mapping, suggest_mapping
from heartseg.evaluation.overlap import confusion_matrix
from heartseg.labels import HVSMR


def reference():
    labels = np.zeros((9, 10, 3), np.uint8)
    for value in range(1, 9):
        labels[value, 1:9] = value
    return labels


def confusion_of(values, labels=None):
    """The confusion of a map whose label v is written as values[v]."""
    truth = reference() if labels is None else labels
    return confusion_matrix(np.asarray(values, np.uint8)[truth], truth, 9)


def test_labels_in_another_order_are_recognised():
    # The tool writes LV as 3, RV as 5, LA as 2, RA as 4, AO as 6, PA as 7.
    found = suggest_mapping([confusion_of([0, 3, 5, 2, 4, 6, 7, 0, 0])] * 2)

    assert found == {2: 3, 3: 1, 5: 2, 6: 5, 7: 6}
    text = describe_mapping(found, HVSMR)
    assert "--map 2=3,3=1,5=2,6=5,7=6" in text
    assert "3 is LV" in text


@pytest.mark.parametrize(
    "values",
    [
        # As they are; two labels exchanged, which may be an honest error; all background; noise.
        range(9),
        [0, 2, 1, 3, 4, 5, 6, 7, 8],
        [0] * 9,
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
)
def test_labels_that_agree_or_hearts_that_do_not_give_no_hint(values):
    assert suggest_mapping([confusion_of(values)]) == {}


def test_without_a_case_there_is_nothing_to_say():
    assert suggest_mapping([]) == {}
