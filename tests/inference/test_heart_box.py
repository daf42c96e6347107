import numpy as np
import pytest

from heartseg.inference.heart_box import find_box
from heartseg.inference.views import HEART_FRACTION, View, ViewedScan, to_box


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
