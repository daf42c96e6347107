"""What of a partial label map counts as drawn."""

import numpy as np
import pytest

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.refinement.drawing import hardly_overlaps, hold_out, understand_drawing
from heartseg.scans.volume import UNLABELLED

SHAPE = (12, 14, 16)


def heart():
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 3:11, 2:14] = 1
    labels[5:7, 5:8, 4:12] = 3
    return labels


def drawn_on(*slices, fill=UNLABELLED):
    """Draw whole slices, each given as (axis, index)."""
    labels = np.full(SHAPE, fill, np.uint8)
    for axis, index in slices:
        np.moveaxis(labels, axis, 0)[index] = np.moveaxis(heart(), axis, 0)[index]
    return labels


@pytest.mark.parametrize("fill", [UNLABELLED, 0])
@pytest.mark.parametrize(
    "slices", [[(2, 5), (2, 9)], [(0, 6)], [(1, 5), (1, 8), (1, 9)], [(0, 5), (2, 8)]]
)
def test_drawn_slices_are_found_with_and_without_unknown_voxels(fill, slices):
    drawing = understand_drawing(drawn_on(*slices, fill=fill), HVSMR)

    np.testing.assert_array_equal(drawing.labels, drawn_on(*slices))
    found = [(axis, index) for axis in range(3) for index in drawing.slices[axis]]
    assert sorted(found) == sorted(slices)
    if fill == 0:
        # Axes count from 0, as in the list of suggested slices.
        assert all(f"along axis {axis}" in drawing.assumption for axis, _ in slices)


def test_an_empty_slice_is_unknown_unless_one_says_that_it_is_background():
    labels = drawn_on((2, 5), (2, 9))
    labels[:, :, 0] = 0

    unknown = understand_drawing(labels, HVSMR)
    background = understand_drawing(labels, HVSMR, empty_slices="background")

    assert unknown.slices[2] == (5, 9)
    assert background.slices[2] == (0, 5, 9)
    assert "unknown" in unknown.assumption
    assert "background" in background.assumption


def test_strokes_are_drawn_where_they_are():
    labels = np.full(SHAPE, UNLABELLED, np.uint8)
    labels[4, 4:11, 6] = 1
    labels[2, 1:14, 6] = 0
    labels[5:7, 5:8, 6] = 3

    drawing = understand_drawing(labels, HVSMR)

    assert drawing.slices == ((), (), ())
    assert drawing.known.sum() == 7 + 13 + 6


@pytest.mark.parametrize(
    ("labels", "absent", "message"),
    [
        (np.full(SHAPE, UNLABELLED, np.uint8), (), "nothing is drawn"),
        (np.zeros(SHAPE, np.uint8), (), "nothing is drawn"),
        (heart(), (), "everything is drawn"),
        (drawn_on((2, 5)), ("LA",), "drawn although declared absent: LA"),
    ],
)
def test_drawings_that_cannot_be_used_are_errors(labels, absent, message):
    if message == "everything is drawn":
        labels = np.where(labels == 0, 0, labels).astype(np.uint8)
        labels[0, 0, 0] = labels[0, 0, 1] = UNLABELLED
    with pytest.raises(DataError, match=message):
        understand_drawing(labels, HVSMR, absent=absent, source="partial.nii.gz")


def test_strokes_of_a_few_voxels_are_an_error():
    labels = np.full(SHAPE, UNLABELLED, np.uint8)
    labels[5, 5, 5] = 1

    with pytest.raises(DataError, match="only 1 voxel drawn"):
        understand_drawing(labels, HVSMR)


@pytest.mark.parametrize(
    ("found", "expected"),
    [(heart(), False), (np.roll(heart(), 2, axis=0), False), (np.roll(heart(), 3, axis=0), True)],
)
def test_a_drawing_of_another_patient_hardly_overlaps(found, expected):
    assert hardly_overlaps(understand_drawing(drawn_on((2, 5), (2, 9)), HVSMR), found) is expected


@pytest.mark.parametrize(
    ("slices", "expected"), [([3, 6, 9], [6]), ([1, 3, 5, 7, 9, 11, 12, 13], [5, 11])]
)
def test_inner_slices_are_held_out(slices, expected):
    held = hold_out(drawn_on(*[(2, index) for index in slices]))

    assert np.flatnonzero(held.any(axis=(0, 1))).tolist() == expected


def test_a_part_of_a_single_slice_is_held_out():
    labels = drawn_on((2, 6))
    held = hold_out(labels)

    assert 0.1 < held.sum() / (labels != UNLABELLED).sum() < 0.5
    assert not held[labels == UNLABELLED].any()
