import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from heartseg.slices.augment import Augmentation, augment_slice

LABELS = 9
GEOMETRY = {
    "flip_horizontal": True,
    "flip_vertical": True,
    "rotation_degrees": 40.0,
    "scale": 0.3,
    "shift": 0.2,
    "elastic_alpha": 4.0,
}
INTENSITY = {"brightness": 0.3, "contrast": 0.4, "gamma": 0.4, "blur_sigma": 2.0, "noise": 0.2}


@pytest.fixture
def labels() -> np.ndarray:
    """Discs of every label in a slice whose sides differ."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:72, :56]
    drawn = np.zeros((72, 56), np.uint8)
    for label in range(1, LABELS):
        row, column, radius = rng.integers(8, 64), rng.integers(8, 48), rng.integers(5, 12)
        drawn[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = label
    return drawn


def augment(labels, seed, image=None, **settings):
    image = labels.astype(np.float32) / (LABELS - 1) if image is None else image
    settings = Augmentation(elastic_sigma=12.0, **settings)
    return augment_slice(image, labels, settings, np.random.default_rng(seed))


def misaligned_fraction(image, labels):
    """Return the fraction of pixels whose intensity does not fit the labels around them."""
    # Outside the slice is background, with which the border mixes.
    around = np.pad(labels, 1)
    low, high = minimum_filter(around, 3)[1:-1, 1:-1], maximum_filter(around, 3)[1:-1, 1:-1]
    level = image * (LABELS - 1)
    return ((level < low - 1e-3) | (level > high + 1e-3))[high > 0].mean()


@pytest.mark.parametrize("names", [*([name] for name in GEOMETRY), list(GEOMETRY)])
def test_an_image_made_of_the_labels_stays_aligned_with_them(labels, names):
    num_moved = 0
    for seed in range(8):
        image, moved = augment(labels, seed, **{name: GEOMETRY[name] for name in names})

        assert set(np.unique(moved)) <= set(range(LABELS))
        # Where an elastic field squeezes the slice, a label may fall between two pixels.
        assert misaligned_fraction(image, moved) < 0.002
        num_moved += not np.array_equal(moved, labels)
    assert num_moved >= 2


def test_the_check_of_alignment_finds_a_shift_of_two_pixels(labels):
    image = np.roll(labels, 2, axis=1).astype(np.float32) / (LABELS - 1)
    assert misaligned_fraction(image, labels) > 0.02


@pytest.mark.parametrize("name", INTENSITY)
def test_intensity_changes_leave_labels_alone_and_stay_in_range(labels, name):
    before = np.random.default_rng(0).random(labels.shape, np.float32)
    image, after = augment(labels, 2, image=before.copy(), **{name: INTENSITY[name]})

    np.testing.assert_array_equal(after, labels)
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert np.abs(image - before).max() > 0.01


def test_by_default_nothing_is_changed(labels):
    assert not Augmentation().is_active
    image, after = augment(labels, 0)
    np.testing.assert_array_equal(after, labels)
    np.testing.assert_array_equal(image, labels.astype(np.float32) / (LABELS - 1))


def test_the_input_is_not_changed(labels):
    image, before = np.full(labels.shape, 0.5, np.float32), labels.copy()
    augment(labels, 5, image=image, **GEOMETRY, **INTENSITY)
    np.testing.assert_array_equal(labels, before)
    assert (image == 0.5).all()


def test_equal_seeds_give_equal_slices_and_others_do_not(labels):
    first, again, other = (augment(labels, seed, **GEOMETRY, **INTENSITY) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[1] != other[1]).any()


def test_a_shift_is_at_most_a_fraction_of_each_side():
    settings = Augmentation(shift=0.25)
    labels = np.zeros((32, 64), np.uint8)
    labels[16, 32] = 1
    rows, columns = [], []
    for seed in range(40):
        _, moved = augment_slice(
            np.zeros((32, 64), np.float32), labels, settings, np.random.default_rng(seed)
        )
        row, column = np.argwhere(moved)[0]
        rows.append(abs(row - 16))
        columns.append(abs(column - 32))
    assert 6 <= max(rows) <= 8
    assert 12 <= max(columns) <= 16


def test_elastic_displacement_stays_below_its_bound():
    rows = np.mgrid[:64, :64][0].astype(np.float32)
    for seed in range(10):
        moved, _ = augment_slice(
            rows / 64,
            np.zeros((64, 64), np.uint8),
            Augmentation(elastic_alpha=3, elastic_sigma=8),
            np.random.default_rng(seed),
        )
        inside = (moved > 0)[4:-4, 4:-4]
        assert np.abs(moved * 64 - rows)[4:-4, 4:-4][inside].max() <= 3 + 0.05
