import numpy as np
import pytest

from heartseg.inference.views import (
    HEART_FRACTION,
    View,
    ViewedScan,
    find_box,
    matrices_onto,
    to_box,
    trim_air,
)


def make_body(shape=(24, 30, 28)):
    rng = np.random.default_rng(0)
    body = rng.uniform(20, 60, shape).astype(np.float32)
    body[8:16, 10:20, 10:18] = 100
    return body


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_planes_of_air_are_left_out_to_within_a_voxel(noise):
    body = make_body()
    around = [(9, 6), (7, 12), (10, 10)]
    air = np.abs(np.random.default_rng(1).normal(0, max(noise, 1e-9), (39, 49, 48)))
    outside = np.pad(np.zeros(body.shape, bool), around, constant_values=True)

    found = trim_air(np.where(outside, noise * air / max(noise, 1e-9), np.pad(body, around)))

    for part, (before, _), side in zip(found, around, body.shape, strict=True):
        assert before - 1 <= part.start <= before
        assert before + side <= part.stop <= before + side + 1


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_margin_of_one_value_is_cut_off_to_the_voxel(value):
    body = make_body()
    alone = body[trim_air(body)]

    around = np.pad(body, ((5, 0), (2, 9), (0, 30)), constant_values=value)

    np.testing.assert_array_equal(around[trim_air(around)], alone)


def test_a_scan_that_shows_something_everywhere_is_kept_whole():
    body = make_body()
    assert body[trim_air(body)].shape == body.shape


def test_a_scan_of_nothing_is_kept_whole():
    assert np.zeros((9, 9, 9))[trim_air(np.zeros((9, 9, 9)))].shape == (9, 9, 9)


def predict_brightness(images):
    """Stand in for a network that takes what is as bright as blood for the heart."""
    bright = np.where(np.abs(images - 1) < 0.45, 6.0, -6.0)
    return np.concatenate([-bright, bright], axis=-1).astype(np.float32)


def make_chest(shape=(60, 70, 64)):
    """Return a grey body with a bright heart at [15:36, 20:46, 30:54], and the heart's corners."""
    chest = np.full(shape, 30.0, np.float32)
    low, high = (15, 20, 30), (36, 46, 54)
    chest[tuple(slice(*ends) for ends in zip(low, high, strict=True))] = 100.0
    return chest, low, high


@pytest.mark.parametrize("start", [1.0, 0.8])
def test_the_box_gives_the_heart_its_usual_place_wherever_the_search_starts(start):
    chest, low, high = make_chest()
    scan = ViewedScan(predict_brightness, chest, (32, 32, 32), 2)

    view = find_box(scan, start=View((start, start, start)))

    box = to_box(view, chest.shape)
    for part, first, last, fraction in zip(box, low, high, HEART_FRACTION, strict=True):
        assert part.stop - part.start == pytest.approx((last - first) / fraction, abs=2.5)
        assert (part.start + part.stop) / 2 == pytest.approx((first + last) / 2, abs=1.5)
    assert scan.level == pytest.approx(100, rel=0.05)


def test_a_box_that_starts_too_small_grows():
    chest, low, high = make_chest()
    scan = ViewedScan(predict_brightness, chest, (32, 32, 32), 2)
    # Half of the heart along the first axis.
    start = View((0.2, 0.6, 0.6), (-0.2, -0.03, 0.15))

    box = to_box(find_box(scan, start=start), chest.shape)

    assert all(
        part.start <= first + 1 and part.stop >= last - 1
        for part, first, last in zip(box, low, high, strict=True)
    )


def test_nothing_found_gives_no_box():
    scan = ViewedScan(
        lambda images: np.float32([9, -9]) + 0 * images, np.ones((9, 9, 9)), (8,) * 3, 2
    )
    assert find_box(scan) is None


def test_labels_of_a_view_return_to_the_voxels_that_it_shows():
    # A view of voxels 4 to 15 of 20; the grid over it has one point per voxel.
    view = View((0.6, 1.0, 1.0), (0.0, 0.0, 0.0))
    box = to_box(view, (20, 6, 5))
    assert box == (slice(4, 16), slice(0, 6), slice(0, 5))
    for matrix, side in zip(
        matrices_onto(box, (20, 6, 5), view, (12, 6, 5)), (12, 6, 5), strict=True
    ):
        np.testing.assert_allclose(matrix, np.eye(side), atol=1e-5)
