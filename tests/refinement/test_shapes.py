"""Drawn shapes, alone and with a prediction."""

import numpy as np
import pytest

from heartseg.refinement.shapes import correct_shapes, interpolate_shapes
from heartseg.scans.volume import UNLABELLED

SHAPE = (24, 24, 21)
X, Y, Z = np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij")


def tube(radius):
    """A tube along the third axis whose radius may change along it."""
    return (np.asarray(radius) ** 2 >= (X - 11.5) ** 2 + (Y - 11.5) ** 2).astype(np.uint8)


CONE = tube(3 + Z / 4)


def draw(truth, indices, axis=2):
    drawn = np.full(SHAPE, UNLABELLED, np.uint8)
    np.moveaxis(drawn, axis, 0)[indices] = np.moveaxis(truth, axis, 0)[indices]
    return drawn


def corrected(predicted, drawn):
    return correct_shapes(predicted, drawn, 2).argmax(axis=-1)


def interpolated(drawn):
    return interpolate_shapes(np.zeros(SHAPE, np.uint8), drawn, 2).argmax(axis=-1)


def test_drawn_shapes_are_interpolated():
    found = interpolated(draw(CONE, [0, 20]))

    # A cone is interpolated without error, up to the voxels on its border.
    assert (found != CONE).sum() < 0.03 * CONE.sum()


def test_a_prediction_that_is_too_small_everywhere_is_corrected_between_drawn_slices():
    # The tube is narrow in the middle, which two drawn slices cannot show.
    truth = tube(4 + np.abs(Z - 10) / 3)
    predicted = tube(2 + np.abs(Z - 10) / 3)
    drawn = draw(truth, [0, 20])

    found = corrected(predicted, drawn)

    wrong = (found != truth).sum()
    assert wrong < 0.5 * (predicted != truth).sum()
    assert (interpolated(drawn) != truth).sum() > wrong
    # Far from what is drawn the prediction counts more.
    grown = (found.astype(int) - predicted).sum(axis=(0, 1))
    assert grown[10] < grown[2]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_drawn_slices_are_kept_in_every_orientation(axis):
    middle = SHAPE[axis] // 2
    found = corrected(np.zeros(SHAPE, np.uint8), draw(CONE, [middle], axis))

    np.testing.assert_array_equal(np.take(found, middle, axis), np.take(CONE, middle, axis))


def test_a_right_prediction_stays_as_it_is():
    np.testing.assert_array_equal(corrected(CONE, draw(CONE, [4, 16])), CONE)


def test_probabilities_sum_to_one_and_absent_classes_have_none():
    probabilities = correct_shapes(CONE, draw(CONE, [5]), 3, absent=[2])

    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)
    assert not probabilities[..., 2].any()
