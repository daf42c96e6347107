"""The second stage: what a network says of patches becomes one answer over the box."""

import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.inference.correction import correct_probabilities, cut_patch, find_patches
from heartseg.inference.views import View, ViewedScan
from heartseg.modelfile.description import SecondStage
from heartseg.scans.resampling import resample_to

STAGE = SecondStage(grid=(24, 20, 16), patch=(16, 12, 16))


def draw_probabilities(shape=(12, 10, 8), num_classes=3):
    values = np.random.default_rng(1).random((*shape, num_classes), np.float32) + 0.1
    return values / values.sum(axis=-1, keepdims=True)


def keep(seen):
    """Stand in for a network that corrects nothing."""
    return np.log(seen[..., 1:])


def test_a_network_that_corrects_nothing_gives_the_probabilities_on_the_finer_grid():
    probabilities = draw_probabilities()
    found = correct_probabilities(keep, STAGE, np.zeros(STAGE.grid, np.float32), probabilities)
    np.testing.assert_allclose(found, resample_to(probabilities, STAGE.grid), atol=1e-5)


def test_patches_cover_the_grid_and_lie_evenly():
    # 24 voxels by patches of 16 which overlap by 4 at least: two; 20 by 12 and 3: two.
    starts = [tuple(part.start for part in patch) for patch in find_patches(STAGE)]
    assert starts == [(0, 0, 0), (0, 8, 0), (8, 0, 0), (8, 8, 0)]
    shipped = SecondStage(grid=(112, 144, 128), patch=(64, 80, 72))
    assert len(find_patches(shipped)) == 8


def test_where_patches_overlap_each_counts_less_towards_its_border():
    def by_patch(seen):
        # The first patch is sure of class 1, the second of class 2.
        by_patch.calls += 1
        logits = np.zeros((*seen.shape[:-1], 3), np.float32)
        logits[..., by_patch.calls] = 50
        return logits

    by_patch.calls = 0
    stage = SecondStage(grid=(24, 4, 4), patch=(16, 4, 4))
    found = correct_probabilities(
        by_patch, stage, np.zeros(stage.grid, np.float32), draw_probabilities((6, 2, 2))
    )
    second = found[:, 0, 0, 2]
    np.testing.assert_allclose(second[:8], 0, atol=1e-6)
    np.testing.assert_allclose(second[16:], 1, atol=1e-6)
    # Tapered over 4 voxels at both ends: 1/4 against 1 at the first, 1 against 1 in the middle.
    np.testing.assert_allclose(second[[8, 9, 11, 12, 15]], [0.2, 1 / 3, 0.5, 0.5, 0.8], atol=1e-6)


def test_the_network_sees_image_and_probabilities_of_the_same_place():
    image = np.random.default_rng(2).random(STAGE.grid, np.float32)
    probabilities = draw_probabilities()
    patch = find_patches(STAGE)[3]
    seen = cut_patch(STAGE, patch, image, probabilities)
    assert seen.shape == (1, 16, 12, 16, 4)
    np.testing.assert_array_equal(seen[0, ..., 0], image[8:, 8:])
    np.testing.assert_allclose(
        seen[0, ..., 1:], resample_to(probabilities, STAGE.grid)[8:, 8:], atol=1e-6
    )


def test_a_network_of_other_patches_is_an_error():
    with pytest.raises(ModelError, match=r"\(1, 16, 12, 16, 3\) from the second stage"):
        correct_probabilities(
            lambda seen: seen[:, 1:, ..., 1:],
            STAGE,
            np.zeros(STAGE.grid, np.float32),
            draw_probabilities(),
        )


@pytest.mark.parametrize(
    ("grid", "patch"), [((24, 20, 16), (32, 12, 16)), ((24, 20, 16), (2, 12, 16)), ((24,), (8,))]
)
def test_patches_that_do_not_fit_are_refused(grid, patch):
    with pytest.raises(ValueError, match="second_stage: expected"):
        SecondStage(grid, patch)


@pytest.mark.parametrize("lowest", [0.0, -1000.0])
def test_a_close_up_shows_the_same_place_as_the_view(lowest):
    rng = np.random.default_rng(4)
    coarse = rng.random((6, 7, 5), np.float32) + 0.2
    coarse[0] = 0
    voxels = resample_to(coarse, (40, 36, 30)) + np.float32(lowest)
    scan = ViewedScan(lambda images: images, voxels, (20, 24, 18), 3)
    for view in (View(), View((0.5, 0.6, 0.7), (0.1, -0.2, 0.05))):
        np.testing.assert_allclose(scan.close_up(view, scan.grid), scan.image(view), atol=1e-4)


def test_a_close_up_of_a_large_scan_is_sharper_than_a_view():
    # Stripes of two voxels, which a scan of 192 voxels per axis cannot hold.
    voxels = np.zeros((400, 10, 10), np.float32)
    voxels[0::4] = voxels[1::4] = 1
    scan = ViewedScan(lambda images: images, voxels, (40, 8, 8), 3)
    view = View((0.1, 1, 1))
    assert np.ptp(scan.close_up(view, (40, 8, 8))[:, 4, 4]) > 0.9
    assert np.ptp(scan.image(view)[:, 4, 4]) < 0.8
