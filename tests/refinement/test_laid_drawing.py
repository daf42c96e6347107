"""Drawn labels on the grid of the answers."""

import numpy as np
import pytest

from heartseg.inference.views import View
from heartseg.refinement.laid_drawing import lay_drawn, score_drawn
from heartseg.scans.volume import UNLABELLED


@pytest.mark.parametrize(
    ("predicted", "drawn", "expected"),
    [
        # Of 4 drawn voxels 2 are right; 4 are found, 3 wanted.
        ([1, 1, 2, 0, 2], [1, 2, 2, UNLABELLED, 0], 4 / 7),
        ([0, 0], [0, UNLABELLED], 1.0),
        ([1, 0], [0, UNLABELLED], 0.0),
    ],
)
def test_all_structures_are_scored_together_where_something_is_drawn(predicted, drawn, expected):
    assert score_drawn(np.array(predicted), np.array(drawn)) == pytest.approx(expected)


def test_a_drawn_slice_is_never_lost_between_two_planes():
    labels = np.full((200, 30, 300), UNLABELLED, np.uint8)
    for index in range(10, 200, 20):
        labels[index] = 1 + index // 20

    laid = lay_drawn(labels, View())

    assert set(np.unique(laid)) == {*range(1, 11), UNLABELLED}
