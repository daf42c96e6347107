import numpy as np

from heartseg.scans.resampling import resample, resample_to, sampling_matrix


def test_sampling_keeps_a_constant_and_a_straight_line():
    matrix = sampling_matrix(40, 20)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    places = matrix @ np.arange(20, dtype=np.float32)
    # Sample i of 40 lies at voxel (i + 0.5) / 2 - 0.5; the ends repeat the outermost voxel.
    np.testing.assert_allclose(places, np.clip((np.arange(40) + 0.5) / 2 - 0.5, 0, 19), atol=1e-5)


def test_a_zoom_and_shift_and_their_inverse_cancel():
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


def test_partial_volume_fractions_of_a_coarse_voxel_sum_to_one():
    labels = np.random.default_rng(0).integers(0, 4, (12, 9, 10))
    fractions = resample_to(np.eye(4, dtype=np.float32)[labels], (6, 5, 4))
    assert fractions.shape == (6, 5, 4, 4)
    np.testing.assert_allclose(fractions.sum(axis=-1), 1, rtol=1e-5)
