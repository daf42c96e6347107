import numpy as np

from heartseg.scans.intensity import normalize
from heartseg.scans.nearest import resize_labels
from heartseg.scans.resampling import resample, resample_to, sampling_matrix


def test_sampling_keeps_a_constant_and_a_straight_line():
    matrix = sampling_matrix(40, 20)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    places = matrix @ np.arange(20, dtype=np.float32)
    # Sample i of 40 lies at voxel (i + 0.5) / 2 - 0.5; the ends repeat the outermost voxel.
    np.testing.assert_allclose(places, np.clip((np.arange(40) + 0.5) / 2 - 0.5, 0, 19), atol=1e-5)


def test_a_view_and_its_opposite_cancel():
    there = sampling_matrix(64, 64, zoom=0.8, shift=0.05)
    back = sampling_matrix(64, 64, zoom=1 / 0.8, shift=-0.05 / 0.8)
    line = np.sin(np.linspace(0, 3, 64, dtype=np.float32))
    inside = np.abs((np.arange(64) + 0.5) / 64 - 0.5 - 0.05) < 0.38
    np.testing.assert_allclose((back @ (there @ line))[inside], line[inside], atol=0.01)


def test_resampling_keeps_the_order_of_the_axes():
    volume = np.arange(3 * 4 * 5 * 2, dtype=np.float32).reshape(3, 4, 5, 2)
    identity = [np.eye(n, dtype=np.float32) for n in (3, 4, 5)]
    np.testing.assert_array_equal(resample(volume, identity), volume)
    pick = [identity[0][:2], identity[1][1:], identity[2][::-1]]
    np.testing.assert_array_equal(resample(volume, pick), volume[:2, 1:, ::-1])


def test_nearest_takes_the_label_at_each_centre():
    labels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
    # Centres of three voxels over six lie between two of them: the upper one is taken.
    np.testing.assert_array_equal(resize_labels(labels, (3, 1, 1)).ravel(), [1, 3, 5])
    np.testing.assert_array_equal(resize_labels(labels, (12, 1, 1)).ravel(), np.repeat(range(6), 2))


def test_shares_of_a_coarse_voxel_sum_to_one():
    labels = np.random.default_rng(0).integers(0, 4, (12, 9, 10))
    shares = resample_to(np.eye(4, dtype=np.float32)[labels], (6, 5, 4))
    assert shares.shape == (6, 5, 4, 4)
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)


def test_blood_comes_near_one_whatever_the_unit():
    image = np.random.default_rng(0).uniform(0, 1, (20, 20, 20)).astype(np.float32)
    np.testing.assert_allclose(normalize(image), normalize(700 * image), rtol=1e-5)
    assert 0.9 < np.percentile(normalize(image), 92) < 1.1
    assert not normalize(np.zeros((4, 4, 4), np.float32)).any()
