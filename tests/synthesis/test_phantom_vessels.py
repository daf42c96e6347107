import numpy as np
import pytest

from heartseg.synthesis.phantom_plan import Plan
from heartseg.synthesis.phantom_vessels import Vessels
from heartseg.synthesis.shapes import FAR_MM, build_grid


@pytest.fixture(scope="module")
def vessels():
    """The vessels of the mean heart on a straight grid of 2 mm."""
    grid = build_grid((53, 63, 59), (2.0, 2.0, 2.0), np.random.default_rng(0), bend_mm=0.0)
    return Vessels(grid, Plan(np.random.default_rng(0), 0.0))


def at(vessels, field, point):
    """Return the value of a field at the voxel nearest to a point in mm."""
    return field[
        tuple(
            int(np.abs(axis - value).argmin())
            for axis, value in zip(vessels.grid.axes, point, strict=True)
        )
    ]


def test_the_valves_of_the_mean_heart_are_at_their_mean_positions(vessels):
    assert vessels.aortic_valve == (-3, -1, 2)
    assert vessels.pulmonary_valve == (-26, -11, -9)


def test_the_aorta_runs_over_the_arch_down_along_the_spine(vessels):
    aorta = vessels.aorta().distance_mm
    # The ascending aorta, the arch and the descending aorta are inside.
    for point in ((-8, -24, 15), (7, -45, 6), (37, 8, -13)):
        assert at(vessels, aorta, point) < -5
    # Below the arch, between its two limbs, is no aorta.
    assert at(vessels, aorta, (14, -10, 2)) > 5


def test_an_outflow_tract_ends_flat_at_its_valve(vessels):
    tract = vessels.outflow("LV")
    # From (-2, 14, -12) to the valve at (-3, -1, 2), with a radius of about 10 mm.
    assert at(vessels, tract, (-2, 6, -5)) < -7
    direction = np.array([-1.0, -15, 14])
    beyond = np.array(vessels.aortic_valve) + 4 * direction / np.linalg.norm(direction)
    assert at(vessels, tract, beyond) == FAR_MM


def test_the_pulmonary_artery_of_the_left_ventricle_is_narrower(vessels):
    from_rv = vessels.pulmonary(from_lv=False).trunk
    from_lv = vessels.pulmonary(from_lv=True).trunk
    # 9.5 to 10 mm, or three quarters of it.
    assert from_rv.distance_mm.min() == pytest.approx(-9.7, abs=0.8)
    assert from_lv.distance_mm.min() < -6.5
    at_second_station = (-18, -20, -10)
    assert at(vessels, from_rv.distance_mm, at_second_station) < -8.5
    assert at(vessels, from_lv.distance_mm, at_second_station) > -8.5


def test_the_venae_cavae_lie_above_one_another_on_the_right(vessels):
    superior, inferior = vessels.cavae()
    assert at(vessels, superior.distance_mm, (-4, -22, 31)) < -6
    assert at(vessels, inferior.distance_mm, (10, 36, 29)) < -7
    assert at(vessels, superior.distance_mm, (10, 36, 29)) > 5


def test_two_pulmonary_veins_reach_into_each_lung(vessels):
    veins = vessels.pulmonary_veins()
    sides = [
        np.sign(sum(vessels.grid.axes[2][np.argwhere(vein.distance_mm < 0)[:, 2]]))
        for vein in veins
    ]
    assert sorted(sides) == [-1, -1, 1, 1]
