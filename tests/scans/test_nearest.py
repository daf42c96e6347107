import numpy as np
import pytest

from heartseg.scans.nearest import resample_labels, resize_labels

LABELS = np.random.default_rng(0).integers(1, 9, (4, 5, 6), np.uint8)


def moved(*voxels):
    """The affine of a grid of 1 mm that is moved by some voxels."""
    affine = np.eye(4)
    affine[:3, 3] = voxels
    return affine


def test_each_voxel_takes_the_label_at_its_centre():
    labels = np.arange(6, dtype=np.uint8).reshape(6, 1, 1)
    # The centres of three voxels over six lie between two of them: the later one is taken.
    np.testing.assert_array_equal(resize_labels(labels, (3, 1, 1)).ravel(), [1, 3, 5])
    np.testing.assert_array_equal(resize_labels(labels, (12, 1, 1)).ravel(), np.repeat(range(6), 2))


def test_labels_of_equal_shape_are_copied():
    resized = resize_labels(LABELS, LABELS.shape)
    np.testing.assert_array_equal(resized, LABELS)
    assert not np.shares_memory(resized, LABELS)


def test_a_shape_with_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="zip"):
        resize_labels(LABELS, (4, 5))


def test_a_grid_moved_by_whole_voxels_shows_the_same_labels_and_background_outside():
    resampled = resample_labels(LABELS, np.eye(4), to_affine=moved(1, 0, -2), shape=LABELS.shape)
    expected = np.zeros_like(LABELS)
    expected[:3, :, 2:] = LABELS[1:, :, :4]
    np.testing.assert_array_equal(resampled, expected)


def test_a_turned_grid_of_half_the_spacing_repeats_each_label():
    to_affine = np.array([[0, 0.5, 0, -0.25], [0.5, 0, 0, -0.25], [0, 0, 1, 0], [0, 0, 0, 1]])
    resampled = resample_labels(LABELS, np.eye(4), to_affine=to_affine, shape=(10, 8, 6))
    expected = LABELS.transpose(1, 0, 2).repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(resampled, expected)


@pytest.mark.parametrize(("beyond", "expected"), [(0.4, 7), (0.6, 0)])
def test_the_volume_reaches_half_a_voxel_beyond_its_outermost_centres(beyond, expected):
    labels = np.full((2, 2, 2), 7, np.uint8)
    for offset in (-beyond, 1 + beyond):
        to_affine = moved(offset, 0, 0)
        resampled = resample_labels(labels, np.eye(4), to_affine=to_affine, shape=(1, 1, 1))
        assert resampled.item() == expected
