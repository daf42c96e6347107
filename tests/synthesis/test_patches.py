"""Patches for the second stage: drawn, disturbed, cut; and their batches."""

import numpy as np
import pytest
from scipy.special import softmax

from heartseg.slices.batches import ALL, Share
from heartseg.synthesis.patch_dataset import GROUP, build_fixed_patches, build_patch_dataset
from heartseg.synthesis.patches import PER_VOLUME, Patches, PatchMaker, disturb
from heartseg.synthesis.rendering import Scan

GRID, PATCH = (24, 32, 28), (12, 16, 12)


def make_scan():
    """Return a bright ball of class 1 with a small dark core of class 2."""
    axes = np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in GRID), indexing="ij")
    radius = np.linalg.norm(axes, axis=0)
    # As large as a heart in its box, so that nothing is cut off around it.
    labels = np.where(radius < 0.08, 2, np.where(radius < 0.47, 1, 0)).astype(np.uint8)
    return Scan(np.where(labels == 1, 100, 20).astype(np.float32), labels)


def find_bright(images):
    """Stand in for a first stage."""
    scores = np.zeros((*images.shape[:4], 3), np.float32)
    scores[..., 1] = 10 * (images[..., 0] - 0.6)
    return scores


MAKER = PatchMaker(find_bright, (12, 16, 14), GRID, PATCH, 3)


def test_a_framed_scan_shows_image_probabilities_and_labels_of_the_same_place():
    patches = MAKER.frame(make_scan(), np.random.default_rng(0))
    assert patches.seen.shape == (PER_VOLUME, *PATCH, 4)
    assert patches.labels.shape == (PER_VOLUME, *PATCH)
    image, found = patches.seen[..., 0], patches.seen[..., 1:]
    # Blood is 1; the border of the ball is blurred on the coarser grid of the first stage.
    np.testing.assert_allclose(image[patches.labels == 1], 1, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
    assert ((found[..., 1] > 0.5) == (patches.labels == 1)).mean() > 0.85


def test_a_small_structure_is_seen_as_often_as_a_large_one():
    rng = np.random.default_rng(0)
    patches = [MAKER.frame(make_scan(), rng) for _ in range(20)]
    shows = np.mean([(part.labels == 2).any(axis=(1, 2, 3)).mean() for part in patches])
    # The core takes 0.2 % of the volume, and a third of the patches is cut around it.
    assert shows > 0.4


def test_draws_follow_from_the_generator_and_have_the_number_that_is_wanted():
    scan = make_scan()
    first, same, other = (
        MAKER.draw(lambda _: scan, PER_VOLUME + 1, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert first.seen.shape == (PER_VOLUME + 1, *PATCH, 4)
    np.testing.assert_array_equal(first.seen, same.seen)
    np.testing.assert_array_equal(first.labels, same.labels)
    assert (first.labels != other.labels).any()


def test_voxels_without_a_known_label_are_no_class():
    scan = Scan(make_scan().image, np.full(GRID, 255, np.uint8))
    patches = MAKER.frame(scan, np.random.default_rng(0))
    ((_, shares),) = build_fixed_patches([patches], num_classes=3, batch_size=PER_VOLUME)
    assert (np.asarray(shares) == 0).all()


def test_disturbed_answers_are_probabilities_and_worse():
    rng = np.random.default_rng(3)
    sure = np.zeros((12, 16, 14, 3), np.float32)
    sure[..., 1] = 8
    sure[:4, ..., 2] = 16
    clean, changed = softmax(sure, axis=-1).argmax(axis=-1), 0
    for _ in range(20):
        found = disturb(sure, rng)
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)
        assert found.min() >= 0
        changed += (found.argmax(axis=-1) != clean).mean() > 0.001
    # Three of four answers are disturbed in some way, and this sure one is changed by some of them.
    assert 5 <= changed <= 17
    assert sure.max() == 16


def count_patches(count, rng):
    """Return patches that hold a number of the generator, so that their order can be read."""
    seen = np.zeros((count, 2, 2, 2, 3), np.float32)
    seen[..., 0] = rng.integers(0, 1000, (count, 1, 1, 1))
    return Patches(seen, np.ones((count, 2, 2, 2), np.uint8))


def read_numbers(first_epoch, batches, share=ALL):
    found = build_patch_dataset(
        count_patches,
        (2, 2, 2),
        num_classes=2,
        steps_per_epoch=GROUP,
        batch_size=2,
        seed=5,
        first_epoch=first_epoch,
        share=share,
    )
    return [float(seen[0, 0, 0, 0, 0]) for seen, _ in found.take(batches)]


def test_a_resumed_run_sees_what_it_would_have_seen():
    whole = read_numbers(0, 2 * GROUP)
    assert read_numbers(1, GROUP) == whole[GROUP:]
    assert whole[:GROUP] != whole[GROUP:]


def test_processes_see_different_patches():
    first, second = (read_numbers(0, 4, Share(index, 2)) for index in (0, 1))
    assert first != second


def test_batches_are_float32_with_one_hot_references():
    patches = MAKER.frame(make_scan(), np.random.default_rng(0))
    seen, shares = next(iter(build_fixed_patches([patches], num_classes=3, batch_size=2)))
    assert (seen.dtype, shares.dtype) == ("float32", "float32")
    np.testing.assert_array_equal(np.asarray(shares).argmax(axis=-1), patches.labels[:2])


@pytest.mark.parametrize("count", [1, 2 * PER_VOLUME])
def test_patches_of_several_hearts_are_mixed(count):
    drawn = []

    def draw_source(rng):
        drawn.append(1)
        return make_scan()

    MAKER.draw(draw_source, count, np.random.default_rng(0))
    assert len(drawn) == -(-count // PER_VOLUME)
