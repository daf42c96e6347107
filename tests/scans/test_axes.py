from itertools import permutations, product

import numpy as np
import pytest
from builders import make_affine

from heartseg.scans.axes import from_trained_axes, to_trained_axes, trained_spacing_mm

ORIENTATIONS = [
    "".join(sides) for pairs in permutations(("LR", "PA", "IS")) for sides in product(*pairs)
]


def test_a_voxel_of_an_ras_scan_moves_to_its_posterior_inferior_right_index():
    scan = np.zeros((2, 3, 4), np.uint8)
    # The voxel that lies furthest to the left, anterior and superior, and its right neighbour.
    scan[0, 2, 3], scan[1, 2, 3] = 1, 2
    turned = to_trained_axes(scan, make_affine("RAS"))
    assert turned.shape == (3, 4, 2)
    assert (turned[0, 0, 0], turned[0, 0, 1]) == (1, 2)
    assert np.count_nonzero(turned) == 2


def test_a_scan_in_the_trained_axes_stays_as_it_is():
    scan = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(to_trained_axes(scan, make_affine("PIR")), scan)


def test_the_turned_scan_is_a_view():
    scan = np.zeros((2, 3, 4))
    assert np.shares_memory(to_trained_axes(scan, make_affine("LSA")), scan)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_from_trained_axes_undoes_to_trained_axes(axes):
    scan, affine = np.arange(24).reshape(2, 3, 4), make_affine(axes)
    back = from_trained_axes(to_trained_axes(scan, affine), affine)
    np.testing.assert_array_equal(back, scan)
    assert back.flags.c_contiguous


@pytest.mark.parametrize(
    ("axes", "expected"),
    [("PIR", (0.8, 1.5, 1.1)), ("RAS", (1.5, 1.1, 0.8)), ("SLA", (1.1, 0.8, 1.5))],
)
def test_the_spacing_follows_the_axes(axes, expected):
    affine = make_affine(axes, (0.8, 1.5, 1.1))
    assert trained_spacing_mm(affine) == pytest.approx(expected)
