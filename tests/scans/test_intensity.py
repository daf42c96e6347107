import re

import numpy as np
import pytest

from heartseg.scans.intensity import (
    apply_window,
    blood_level,
    find_clipping,
    find_window,
    normalize,
    rough_level,
    to_gray,
)


def test_a_fixed_window_is_used_as_given():
    assert find_window(np.array([5.0, 9.0]), "fixed", (0.0, 1.5)) == (0.0, 1.5)


def test_percentiles_are_those_of_the_scan():
    scan = np.arange(101, dtype=np.float32).reshape(101, 1, 1)
    assert find_window(scan, "percentile", (1.0, 99.5)) == pytest.approx((1.0, 99.5))


def test_the_window_of_a_constant_scan_is_one_wide():
    assert find_window(np.full((3, 4, 5), 7.0), "percentile", (1, 99)) == (7.0, 8.0)


@pytest.mark.parametrize("value", [2.0**53, -(2.0**60), 1e30])
def test_a_constant_scan_is_black_however_large_its_numbers(value):
    scan = np.full((3, 4, 5), value, np.float32)
    limits = find_window(scan, "percentile", (1, 99))
    assert not apply_window(scan, limits).any()


def test_the_window_becomes_0_to_1_and_nothing_near_it_is_clipped():
    scaled = apply_window(np.array([-1.0, 0.0, 1.0, 3.0], np.float32), (0.0, 2.0))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-0.5, 0, 0.5, 1.5])


@pytest.mark.parametrize("limits", [(0.0, 1e-300), (1.0, 1.0 + 1e-12), (-3e38, 3e38), (0, 1e-45)])
def test_extreme_windows_stay_finite(limits):
    image = np.array([-3.4e38, -1, 0, 1, 1.5, 3.4e38], np.float32)
    assert np.isfinite(apply_window(image, limits)).all()


def test_grey_levels_are_rounded_and_clipped():
    values = np.array([-1, 0, 0.5 / 255 + 1e-4, 0.5, 1, 7], np.float32)
    assert to_gray(values).tolist() == [0, 0, 1, 128, 255, 255]
    assert to_gray(values).dtype == np.uint8
    assert to_gray(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_the_input_is_not_changed():
    image = np.array([0.25, 3.0], np.float32)
    apply_window(image, (0.0, 2.0))
    to_gray(image)
    assert image.tolist() == [0.25, 3.0]


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ((0.0, 1.0), None),
        ((0.0, 0.001), r"makes 100% of what is not black white \(intensities reach 0.947\d*\)"),
        ((0.0, 1000.0), "makes the scan black"),
        ((-5.0, -4.0), "white"),
    ],
)
def test_a_window_of_other_units_is_noticed(limits, problem):
    scan = np.linspace(0, 1, 20 * 20 * 20).reshape(20, 20, 20)

    found = find_clipping(scan, limits)

    assert (found is None) == (problem is None)
    assert found is None or re.search(problem, found)


def test_blood_becomes_one_and_the_brightest_spots_are_clipped():
    image = np.array([[[0.0, 50.0, 100.0, 900.0]]], np.float32)
    np.testing.assert_array_equal(normalize(image, 100.0), [[[0.0, 0.5, 1.0, 2.0]]])
    assert not normalize(np.zeros((4, 4, 4), np.float32), 0.0).any()


def test_an_image_in_small_units_is_normalised_alike():
    image = np.array([[[0.0, 50.0, 100.0, 900.0]]], np.float32)
    seen = normalize(image * np.float32(1e-12), 100e-12)
    np.testing.assert_allclose(seen, [[[0.0, 0.5, 1.0, 2.0]]], rtol=1e-6)


def test_the_level_of_blood_is_that_of_the_heart_alone():
    image = np.full((4, 5, 6), 700.0)
    heart = np.zeros(image.shape, bool)
    heart[1:3, 1:4, 2:5] = True
    image[heart] = 30.0

    assert blood_level(image, heart) == 30.0
    assert blood_level(image, np.zeros_like(heart)) == 0.0


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_a_margin_hardly_changes_the_rough_level(noise):
    rng = np.random.default_rng(0)
    body = rng.uniform(20, 40, (24, 30, 28)).astype(np.float32)
    body[8:16, 10:20, 10:18] = rng.uniform(90, 110, (8, 10, 8))
    around = [(10, 10)] * 3
    margin = np.pad(np.zeros(body.shape, bool), around, constant_values=True)
    air = np.abs(rng.normal(0, 1, margin.shape))

    padded = np.where(margin, noise * air, np.pad(body, around))

    assert rough_level(padded) == pytest.approx(rough_level(body), rel=0.06)
    assert 30 < rough_level(body) <= 110
    assert rough_level(np.zeros((4, 4, 4))) == 0.0
