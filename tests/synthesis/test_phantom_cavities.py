import numpy as np
import pytest

from heartseg.synthesis.phantom_cavities import (
    open_outflows,
    place_pools,
    separate_pools,
    trabeculate,
    wrap_in_muscle,
)
from heartseg.synthesis.phantom_plan import Heart, Plan
from heartseg.synthesis.phantom_vessels import Vessels
from heartseg.synthesis.shapes import build_grid

WHOLE = Heart("mild", missing=None, inverted=False, seed=0)


@pytest.fixture(scope="module")
def grid():
    return build_grid((53, 63, 59), (2.0, 2.0, 2.0), np.random.default_rng(0), bend_mm=0.0)


def make(grid, heart):
    """Return the plan, the bodies and the separated pools of a mean heart."""
    plan = Plan(np.random.default_rng(0), 0.0)
    vessels = Vessels(grid, plan)
    bodies = place_pools(grid, plan, heart)
    aorta, pulmonary = vessels.aorta(), vessels.pulmonary(from_lv=heart.missing == "RV")
    pools = open_outflows(bodies, vessels, heart)
    pools = separate_pools(pools, bodies, plan, heart, aorta=aorta, pulmonary=pulmonary)
    return plan, bodies, pools


def test_the_left_ventricle_is_an_ellipsoid_around_its_mean_centre(grid):
    _, bodies, _ = make(grid, WHOLE)
    inside = bodies.lv < 0
    # Half-axes of 33, 19 and 19.5 mm, in voxels of 8 mm3; the sampling is coarse.
    assert inside.sum() * 8 == pytest.approx(4 / 3 * np.pi * 33 * 19 * 19.5, rel=0.05)
    center = [axis[index].mean() for axis, index in zip(grid.axes, np.nonzero(inside), strict=True)]
    np.testing.assert_allclose(center, (-1, 18, -21), atol=1.5)


def test_walls_separate_the_pools(grid):
    _, _, pools = make(grid, WHOLE)
    # 5.5 mm between the ventricles, 2.6 mm between the atria.
    assert pools.lv[pools.rv < 0].min() >= 5.5 - 1e-3
    assert pools.la[pools.ra < 0].min() >= 2.6 - 1e-3
    for pool in (pools.lv, pools.rv, pools.la, pools.ra):
        assert (pool < 0).any()


@pytest.mark.parametrize(("missing", "name"), [("RV", "rv"), ("RA", "ra")])
def test_a_missing_cavity_has_no_voxel(grid, missing, name):
    _, _, pools = make(grid, Heart("severe", missing=missing, inverted=False, seed=0))
    assert np.isinf(getattr(pools, name)).all()


def test_a_left_atrium_replaces_the_right_one(grid):
    _, bodies, pools = make(grid, Heart("severe", missing="RA", inverted=False, seed=0))
    _, _, whole = make(grid, WHOLE)
    assert (pools.la < 0).sum() > 1.3 * (whole.la < 0).sum()
    assert (bodies.ra < 0).any()


def test_muscle_surrounds_the_left_ventricle_by_its_mean_thickness(grid):
    plan, bodies, pools = make(grid, WHOLE)
    ventricles = wrap_in_muscle(pools, bodies, plan)
    left = np.minimum(pools.lv, bodies.lv)
    # Far from the right ventricle, with its thinner muscle.
    far = np.minimum(pools.rv, bodies.rv) > 15
    assert (far & (left > 0) & (ventricles < 0)).sum() > 100
    np.testing.assert_array_equal((ventricles < 0)[far], (left < 8.5)[far])


@pytest.mark.parametrize(("inverted", "rough"), [(False, "rv"), (True, "lv")])
def test_trabeculae_narrow_the_ventricles_and_one_of_them_more(grid, inverted, rough):
    plan, _, pools = make(grid, WHOLE)
    roughened = trabeculate(grid, plan, pools, inverted=inverted)
    near = {name: np.abs(getattr(pools, name)) < 1 for name in ("lv", "rv")}
    # Papillary muscles change the distance by more than the 2.6 mm of the deepest ridges.
    change = {name: (getattr(roughened, name) - getattr(pools, name))[near[name]] for name in near}
    for values in change.values():
        assert values.min() >= 0
    smooth = "lv" if rough == "rv" else "rv"
    assert np.median(change[rough][change[rough] > 0]) > np.median(
        change[smooth][change[smooth] > 0]
    )
