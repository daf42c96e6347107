from functools import partial

import numpy as np
import pytest

from heartseg.scans.nearest import resize_labels
from heartseg.scans.resampling import resample_to
from heartseg.synthesis.phantom import make_phantom
from heartseg.synthesis.rendering import (
    HEART_FRACTION,
    Scan,
    Window,
    find_heart,
    frame_scan,
    make_sample,
)
from heartseg.synthesis.scene import SCENE_GRID, paint_scene

GRID = (24, 32, 24)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 0, size=48)


@pytest.fixture(scope="module")
def scene(phantom):
    return paint_scene(phantom.labels, (2.0, 2.0, 2.0), np.random.default_rng(0))


@pytest.fixture(scope="module")
def scan(phantom):
    return Scan(
        resample_to(phantom.image, SCENE_GRID),
        resize_labels(phantom.labels.astype(np.uint8), SCENE_GRID),
    )


def sample(source, seed=0):
    return make_sample(source, GRID, num_classes=9, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["scene", "scan"])
def test_a_sample_is_an_image_and_the_share_of_each_class(kind, request):
    made = sample(request.getfixturevalue(kind))
    assert made.image.shape == (*GRID, 1)
    assert made.shares.shape == (*GRID, 9)
    assert made.image.min() >= 0
    assert made.image.max() <= 2
    np.testing.assert_allclose(made.shares.sum(axis=-1), 1, rtol=1e-4)


@pytest.mark.parametrize("kind", ["scene", "scan"])
def test_a_sample_follows_from_its_seed(kind, request):
    source = request.getfixturevalue(kind)
    np.testing.assert_array_equal(sample(source, 1).image, sample(source, 1).image)
    np.testing.assert_array_equal(sample(source, 1).shares, sample(source, 1).shares)
    assert np.abs(sample(source, 1).image - sample(source, 2).image).mean() > 0.02


def test_blood_is_bright_where_the_labels_say_so(scene):
    blood, rest = [], []
    for seed in range(12):
        made = sample(scene, seed)
        inside = made.shares[..., 0] < 0.05
        blood.append(made.image[inside].mean())
        rest.append(made.image[~inside].mean())
    assert np.mean(blood) > 0.75
    assert np.mean(blood) > 1.5 * np.mean(rest)


def test_image_and_labels_of_a_scan_are_bent_alike(scan):
    # An image that is its own label map stays one, but for blurred borders.
    own = Scan((scan.labels > 0).astype(np.float32), scan.labels)
    for seed in range(5):
        made = sample(own, seed)
        heart = 1 - made.shares[..., 0]
        bright = made.image[..., 0] > 0.5 * np.percentile(made.image, 97)
        overlap = 2 * (bright & (heart > 0.5)).sum() / (bright.sum() + (heart > 0.5).sum())
        assert overlap > 0.85


def test_a_framed_scan_is_not_changed(scan):
    framed = frame_scan(scan, GRID, num_classes=9)
    np.testing.assert_array_equal(framed.image, frame_scan(scan, GRID, num_classes=9).image)
    likeliest = framed.shares.argmax(axis=-1)
    assert (likeliest == resize_labels(scan.labels, GRID)).mean() > 0.97


def test_samples_are_mirrored_when_asked(scene):
    plain, mirrored = (
        make_sample(
            scene, GRID, num_classes=9, rng=np.random.default_rng(4), mirror_share=share
        ).shares
        for share in (0.0, 1.0)
    )
    # Bent a little differently, but left and right are exchanged.
    assert np.abs(plain[:, :, ::-1] - mirrored).mean() < 0.5 * np.abs(plain - mirrored).mean()


def test_the_window_follows_the_heart_not_the_border_of_the_source(phantom):
    # The same heart in a far larger scene: it takes as much of the samples.
    wide = paint_scene(
        phantom.labels, (2.0, 2.0, 2.0), np.random.default_rng(0), grid=(40, 52, 40), margin=0.75
    )
    assert wide.tissues.shape == (100, 130, 100)
    fractions = [1 - sample(wide, seed).shares[..., 0].mean() for seed in range(8)]
    # Half or more of the samples show the box around the heart and little else.
    (low, high) = find_heart(wide.labels, 9)
    heart = np.count_nonzero(wide.labels) / np.prod((high - low) / HEART_FRACTION)
    assert np.median(fractions) > 0.6 * heart
    assert min(fractions) < 0.6 * heart


def test_a_scan_in_which_nothing_is_labelled_gives_a_sample_without_structures(scan):
    made = sample(Scan(scan.image, np.zeros_like(scan.labels)))
    np.testing.assert_allclose(made.shares[..., 0], 1, rtol=1e-4)
    assert 0 < made.image.mean() < 1.5


def chest(scan, room=(36, 48, 36)):
    """The same scan with noise all around it: the heart takes less than an eighth of its box."""
    around = [(side, side) for side in room]
    rng = np.random.default_rng(2)
    image = rng.uniform(0, 0.3, np.add(scan.labels.shape, 2 * np.array(room))).astype(np.float32)
    inner = tuple(slice(side, -side) for side in room)
    image[inner] = scan.image / np.percentile(scan.image, 99)
    return Scan(image, np.pad(scan.labels, around))


def test_a_scan_of_a_chest_is_shown_close_and_wide(scan):
    def fractions(source):
        return np.array([1 - sample(source, seed).shares[..., 0].mean() for seed in range(12)])

    close, both = fractions(scan), fractions(chest(scan))
    # As it is shown without the chest around it, but for the wide ones.
    assert np.median(both) > 0.75 * np.median(close)
    limit = 0.65 * np.median(close)
    assert 1 <= (both < limit).sum() <= 8
    assert not (close < limit).any()


def test_a_window_within_a_source_ends_at_its_border():
    three = partial(np.array, dtype=np.float32)
    window = Window(three([2, 30, 10]), three([10, 20, 99]), three([8, 8, 8]))
    moved = window.within((40, 36, 24))
    np.testing.assert_allclose(moved.center, [4.5, 25.5, 11.5])
    np.testing.assert_allclose(moved.extent, [10, 20, 24])
    np.testing.assert_allclose(moved.box, 8)
    same = Window(three([20, 20, 20]), three([10, 20, 9]), three([8, 8, 8]))
    np.testing.assert_allclose(same.within((40, 40, 40)).center, same.center)


def test_a_framed_scan_shows_the_heart_whatever_surrounds_it(scan):
    tight, framed = (frame_scan(one, GRID, num_classes=9) for one in (scan, chest(scan)))
    heart = [1 - made.shares[..., 0] for made in (tight, framed)]
    assert 0.8 < heart[1].mean() / heart[0].mean() < 1.25
    low, high = find_heart((heart[1] > 0.5).astype(np.uint8), 9)
    np.testing.assert_allclose((high - low) / GRID, HEART_FRACTION, atol=0.09)
