"""Diameters along the centreline of tubes whose diameters are known."""

import numpy as np
import pytest
from builders import make_affine, rotate
from scipy.spatial import cKDTree
from vessels import arc, draw_tube, straight

from heartseg.measurements.diameters import measure_diameters
from heartseg.surfaces.label_surfaces import fit_labels

THICK_MM = np.diag([0.5, 0.5, 3.0])
UNEVEN_MM = rotate(make_affine("PIR", (0.8, 1.5, 1.1)), (20, -15, 40))[:3, :3]
SHEARED_MM = np.array([[0.8, 0.1, 0.4], [0, 0.8, 0], [0, 0, 1.5]])
LINES = {"straight": straight(70, (1, 0.7, 0.5)), "arc": arc(30, 150)}
TILTED = rotate(np.eye(4), (60, 30, 0))[:3, :3]


def measure(tube):
    inside = frozenset({1})
    smooth, fit = fit_labels(tube.mask.astype(np.uint8), tube.affine, [inside])
    return measure_diameters(*smooth.margin(inside, fit.weights))


@pytest.mark.parametrize("radius_mm", [7.5, 12])
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize(
    ("steps_mm", "turn"),
    [
        (np.eye(3), np.eye(3)),
        (THICK_MM, np.eye(3)),
        (THICK_MM, TILTED),
        (UNEVEN_MM, np.eye(3)),
        (SHEARED_MM, np.eye(3)),
    ],
    ids=["cubes", "thick slices", "thick slices, tilted", "oblique", "sheared"],
)
def test_every_diameter_of_an_even_tube_is_within_5_percent(radius_mm, line, steps_mm, turn):
    tube = draw_tube(LINES[line] @ turn.T, radius_mm, steps_mm)

    found = measure(tube)

    for diameter in (found.largest, found.median, found.smallest):
        assert diameter.diameter_mm == pytest.approx(2 * radius_mm, rel=0.05)
    distances, _ = cKDTree(tube.line_mm).query([found.median.place_mm])
    assert distances[0] < 1.5


def test_a_narrow_place_is_found_where_it_is():
    line = straight(90, (0.3, 0.2, 1))
    along = np.linspace(0, 90, len(line))
    tube = draw_tube(line, 8 - 3 * np.exp(-(((along - 60) / 6) ** 2)), np.diag([0.9] * 3))

    found = measure(tube)

    assert found.smallest.diameter_mm == pytest.approx(10, rel=0.05)
    assert np.linalg.norm(found.smallest.place_mm - line[np.searchsorted(along, 60)]) < 2
    assert found.largest.diameter_mm == pytest.approx(16, rel=0.05)
    assert found.median.diameter_mm == pytest.approx(16, rel=0.05)


def test_a_tube_that_widens_has_at_each_place_the_diameter_of_that_place():
    line = straight(90, (0.3, 0.2, 1))
    tube = draw_tube(line, np.linspace(5, 10, len(line)), np.diag([0.9] * 3))

    found = measure(tube)

    for diameter in (found.largest, found.median, found.smallest):
        _, nearest = cKDTree(line).query(diameter.place_mm)
        assert diameter.diameter_mm == pytest.approx(2 * tube.radii_mm[nearest], rel=0.05)
    # The line ends about a radius before the tube does.
    assert found.smallest.diameter_mm < 11.5
    assert found.largest.diameter_mm > 18


def test_a_cane_like_the_aorta_has_its_diameter_all_the_way():
    up = straight(35, (0, 0, 1))
    bend = np.array([25.0, 0, 35]) + arc(25, 180)[:, [0, 2, 1]] * [-1, 1, 1]
    down = np.array([50.0, 0, 35]) + straight(80, (0, 0, -1))
    tube = draw_tube(np.concatenate([up, bend, down]), 9, np.diag([0.9] * 3))

    found = measure(tube)

    assert found.smallest.diameter_mm == pytest.approx(18, rel=0.05)
    assert found.largest.diameter_mm == pytest.approx(18, rel=0.05)


def test_a_vessel_as_short_as_it_is_wide_is_measured_in_its_middle():
    found = measure(draw_tube(straight(16, (0, 0, 1)), 8, np.diag([0.9] * 3)))

    assert found.largest.diameter_mm == pytest.approx(16, rel=0.05)
    assert found.smallest.place_mm == pytest.approx((0, 0, 8), abs=1.5)


def test_both_of_two_vessels_are_measured():
    wide = draw_tube(straight(60, (0, 0, 1)), 8, np.eye(3))
    mask = np.concatenate([wide.mask, np.zeros_like(wide.mask)])
    narrow = draw_tube(straight(60, (0, 0, 1)), 6, np.eye(3)).mask
    mask[-narrow.shape[0] - 3 : -3, 2 : 2 + narrow.shape[1], 2 : 2 + narrow.shape[2]] |= narrow
    inside = frozenset({1})
    smooth, fit = fit_labels(mask.astype(np.uint8), wide.affine, [inside])

    found = measure_diameters(*smooth.margin(inside, fit.weights))

    assert found.largest.diameter_mm == pytest.approx(16, rel=0.05)
    assert found.smallest.diameter_mm == pytest.approx(12, rel=0.05)


def test_nothing_has_no_diameter():
    assert measure_diameters(np.full((4, 5, 6), -1, np.float32), np.eye(4)) is None
