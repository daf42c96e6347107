"""Which slices are suggested."""

import numpy as np
import pytest

from heartseg.inference.suggestion import choose_axis, measure_doubt, suggest_slices
from heartseg.inference.views import FINE_GRID, View

AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


def test_slices_divide_the_doubt_into_equal_parts():
    doubt = [np.zeros(100), np.zeros(10), np.zeros(10)]
    doubt[0][:] = 1.0

    chosen = suggest_slices(doubt, AFFINE, count=3)

    # A quarter, a half and three quarters of 100 equal slices.
    assert [(one.axis, one.index) for one in chosen] == [(0, 24), (0, 49), (0, 74)]
    assert chosen[0].position_mm == (24.0, 4.5, 4.5)


def test_slices_go_where_the_doubt_is_and_not_where_something_is_drawn():
    doubt = [np.zeros(100), np.zeros(10), np.zeros(10)]
    doubt[0][60:80] = 5.0
    doubt[0][10] = 1.0

    first = [one.index for one in suggest_slices(doubt, AFFINE, count=2)]
    again = [one.index for one in suggest_slices(doubt, AFFINE, count=2, drawn=(first, (), ()))]

    assert all(60 <= index < 80 for index in first)
    assert not set(first) & set(again)


def test_no_doubt_gives_no_slices():
    assert suggest_slices([np.zeros(9)] * 3, AFFINE) == []


@pytest.mark.parametrize(
    ("spacing", "expected"), [((1.0, 1.0, 3.0), 2), ((1.0, 2.0, 1.0), 1), ((1.0, 1.0, 1.1), 0)]
)
def test_a_scan_is_drawn_across_its_largest_spacing_or_sagittally(spacing, expected):
    assert choose_axis(np.diag([*spacing, 1.0])) == expected


@pytest.mark.parametrize("flip", [1.0, -1.0])
def test_doubt_is_measured_along_the_axes_of_the_scan(flip):
    # Superior runs along the first axis of the scan, forwards or backwards.
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [flip, 0, 0, 0], [0, 0, 0, 1]])
    probabilities = np.ones((*FINE_GRID, 2), np.float32) * [1.0, 0.0]
    # Unsure in the inferior quarter of the box; the second trained axis runs toward inferior.
    probabilities[:, 84:] = 0.5
    whole = (slice(None), slice(None), slice(None))

    profile, *_ = measure_doubt(
        probabilities.astype(np.float32), View(), lit=whole, shape=(20, 40, 24), affine=affine
    )

    assert profile.shape == (40,)
    unsure = profile if flip > 0 else profile[::-1]
    # 10 slices of 480 voxels, each half unsure.
    assert unsure[:8] == pytest.approx(240, rel=0.02)
    assert unsure[12:].max() == pytest.approx(0, abs=1)
