import numpy as np
import pytest

from heartseg.synthesis.phantom_plan import Plan, as_point


def test_without_spread_sizes_and_positions_are_the_mean():
    plan = Plan(np.random.default_rng(0), 0.0)

    np.testing.assert_array_equal(plan.turn, np.eye(3))
    assert plan.size(8.5) == 8.5
    assert plan.radii(33, 19, 19.5) == (33, 19, 19.5)
    assert plan.place(-20, 24, -40) == (-20, 24, -40)


def test_sizes_vary_around_the_mean():
    plan = Plan(np.random.default_rng(0), 1.0)
    sizes = np.array([plan.size(10.0, 0.1) for _ in range(2000)])

    assert sizes.mean() == pytest.approx(10, abs=0.1)
    assert sizes.std() == pytest.approx(1.0, abs=0.1)


def test_extreme_sizes_are_cut_off():
    plan = Plan(np.random.default_rng(0), 1.0)
    sizes = [plan.size(10.0, 1.0) for _ in range(200)]

    # 0.72 and 1.35 times the mean.
    assert (min(sizes), max(sizes)) == pytest.approx((7.2, 13.5))


def test_points_far_from_the_heart_turn_with_it_less():
    plan = Plan(np.random.default_rng(0), 0.0)
    # A quarter turn about the first axis, around the centre (0, 10, 0) of the heart.
    plan.turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])

    # 50 mm from the centre a point follows by half: from (0, 60, 0) half way to (0, 10, 50).
    np.testing.assert_allclose(plan.place(0, 60, 0), (0, 35, 25), atol=1e-9)
    # At the centre nothing moves.
    np.testing.assert_allclose(plan.place(0, 10, 0), (0, 10, 0), atol=1e-9)


def test_a_point_holds_plain_numbers():
    point = as_point(np.array([1.5, -2.0, 0.25]))
    assert point == (1.5, -2.0, 0.25)
    assert all(type(value) is float for value in point)
