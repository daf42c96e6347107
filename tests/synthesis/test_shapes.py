import numpy as np
import pytest

from heartseg.synthesis.shapes import (
    FAR_MM,
    Grid,
    build_grid,
    ellipsoid,
    gap,
    random_field,
    rotation,
    tube,
)


def straight_grid(shape=(21, 23, 25), spacing_mm=(2.0, 2.0, 1.5)) -> Grid:
    return build_grid(shape, spacing_mm, np.random.default_rng(0), bend_mm=0.0)


def test_grid_is_centred_and_straight_without_bend():
    grid = straight_grid()

    np.testing.assert_allclose(grid.axes[0][[0, 10, -1]], [-20, 0, 20])
    np.testing.assert_allclose(grid.points[:, 0, 11, 24], [-20, 0, 18])


def test_bend_stays_within_its_bound():
    grid = build_grid((21, 23, 25), (5.0, 5.0, 4.0), np.random.default_rng(1), bend_mm=3.0)
    straight = np.stack(np.meshgrid(*grid.axes, indexing="ij"))

    assert 0.5 < np.abs(grid.points - straight).max() <= 3.0 + 1e-4


def test_distance_to_a_sphere_is_exact():
    grid = straight_grid()
    distance = ellipsoid(grid.points, (0, 0, 0), (6, 6, 6))

    assert distance[13, 11, 12] == pytest.approx(0.0, abs=1e-4)  # 3 voxels of 2 mm: the surface
    assert distance[15, 11, 12] == pytest.approx(4.0, abs=1e-4)
    assert distance[12, 11, 12] == pytest.approx(-2.0, abs=1e-4)


def test_ellipsoid_follows_its_frame():
    grid = straight_grid()
    frame = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])  # the long half-axis lies along axis 2
    inside = ellipsoid(grid.points, (0, 0, 0), (15, 4, 4), frame) < 0

    assert inside[10, 11, 12 + 9]
    assert not inside[10 + 3, 11, 12]


def test_tube_between_two_points_is_a_capsule():
    grid = straight_grid()
    vessel = tube(grid, [(-10, 0, 0), (10, 0, 0)], [4, 4])

    assert vessel.length_mm == pytest.approx(20.0)
    assert vessel.distance_mm[10, 11, 12] == pytest.approx(-4.0, abs=1e-4)
    assert vessel.distance_mm[10, 15, 12] == pytest.approx(4.0, abs=1e-4)
    assert vessel.distance_mm[18, 11, 12] == pytest.approx(2.0, abs=1e-4)  # 6 mm beyond the end
    assert vessel.along_mm[12, 11, 12] == pytest.approx(14.0, abs=1e-4)


def test_a_gap_is_the_outside_of_a_larger_shape():
    grid = straight_grid()
    ball = ellipsoid(grid.points, (0, 0, 0), (6, 6, 6))
    # 9 mm from the centre is 3 mm from the ball, and 1 mm from what stays 4 mm away from it.
    np.testing.assert_allclose(gap(ball, 4.0), 4.0 - ball, atol=1e-5)
    assert gap(ball, 4.0)[10, 11, 12 + 6] == pytest.approx(1.0, abs=1e-4)


def test_voxels_far_from_a_tube_are_not_computed():
    grid = straight_grid((41, 41, 41), (3.0, 3.0, 3.0))
    vessel = tube(grid, [(0, 0, -6), (0, 0, 6)], [3, 3])

    assert vessel.distance_mm[0, 0, 0] == FAR_MM


def test_random_field_does_not_depend_on_the_voxel_size():
    coarse = [np.linspace(-40, 40, count, dtype=np.float32) for count in (5, 9, 11)]
    fine = [np.linspace(-40, 40, 2 * count - 1, dtype=np.float32) for count in (5, 9, 11)]
    of_coarse = random_field(np.random.default_rng(3), coarse, 15.0)
    of_fine = random_field(np.random.default_rng(3), fine, 15.0)

    np.testing.assert_allclose(of_fine[::2, ::2, ::2], of_coarse, atol=1e-5)


def test_random_field_has_unit_spread():
    axis = np.linspace(-60, 60, 40, dtype=np.float32)
    field = random_field(np.random.default_rng(4), [axis, axis, axis], 8.0)

    assert abs(field.mean()) < 0.1
    assert 0.85 < field.std() < 1.15


def test_quarter_turn_about_the_third_axis():
    np.testing.assert_allclose(rotation((0, 0, 90)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
