import numpy as np
import pytest

from heartseg.inference.trimming import trim_air


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
