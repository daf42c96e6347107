"""The network of the second stage: it starts as the identity, and its weights fit any patch."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from heartseg.modelfile.checkpoint import load_model, save_model
from heartseg.networks.correction_unet import LEAST_PROBABILITY, build_correction_unet


def draw_seen(patch, num_classes, seed=0):
    rng = np.random.default_rng(seed)
    seen = rng.random((1, *patch, 1 + num_classes), np.float32)
    seen[..., 1:] /= seen[..., 1:].sum(axis=-1, keepdims=True)
    return seen


def compute(model, seen):
    return keras.ops.convert_to_numpy(model(seen))


def change_all(model):
    rng = np.random.default_rng(3)
    model.set_weights([w + rng.normal(0, 0.1, w.shape) for w in model.get_weights()])


def test_a_new_network_returns_the_logarithm_of_what_it_is_given():
    seen = draw_seen((8, 12, 4), 3)
    logits = compute(build_correction_unet(patch=(8, 12, 4), filters=(8, 16), num_classes=3), seen)
    np.testing.assert_allclose(logits, np.log(seen[..., 1:] + LEAST_PROBABILITY), atol=1e-5)
    assert logits.dtype == np.float32


def test_the_default_network_has_the_size_that_its_layers_add_up_to():
    widths = (32, 64, 96)
    # Blocks of 2 x 2 x 2 voxels of the image and nine probabilities are 80 channels.
    units = [(80, 32), (32, 32)] + [(w, w) for w in widths[1:] for _ in range(2)]
    units += [(w, w) for w in widths[:2] for _ in range(2)]
    expected = sum(27 * a * b + 2 * b for a, b in units)
    expected += sum(8 * a * b + b for a, b in pairwise(widths))
    expected += sum(a * b + a for a, b in pairwise(widths))
    expected += 32 * 72 + 72
    assert build_correction_unet(patch=(8, 16, 24)).count_params() == expected


def test_weights_fit_patches_of_another_size():
    small = build_correction_unet(patch=(8, 12, 4), filters=(8, 16), num_classes=3, seed=1)
    change_all(small)
    large = build_correction_unet(patch=(16, 12, 8), filters=(8, 16), num_classes=3)
    large.set_weights(small.get_weights())
    assert compute(large, draw_seen((16, 12, 8), 3)).shape == (1, 16, 12, 8, 3)


def test_a_model_file_gives_both_networks_back(tmp_path):
    first = build_correction_unet(patch=(4, 4, 4), filters=(8, 8), num_classes=2)
    second = build_correction_unet(patch=(8, 12, 4), filters=(8, 16), num_classes=3, seed=2)
    change_all(second)
    save_model(first, tmp_path / "both.keras", {"labels": []}, second_stage=second)

    loaded = load_model(tmp_path / "both.keras", second_stage=True)

    seen = draw_seen((8, 12, 4), 3)
    np.testing.assert_array_equal(compute(loaded, seen), compute(second, seen))
    assert load_model(tmp_path / "both.keras").output_shape == (None, 4, 4, 4, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": (8, 12, 6)}, "expected three multiples of 4"),
        ({"filters": (8, 12)}, "filters: expected multiples of 8"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build_correction_unet(**{"patch": (8, 12, 4), "filters": (8, 16), **options})
