import math

import keras
import numpy as np
import pytest

from heartseg.modelfile.checkpoint import load_model, save_model
from heartseg.networks.memory import count_features
from heartseg.networks.plan import count_parameters, plan_levels
from heartseg.networks.unet import build_unet, summarize

SMALL = {"image_size": (16, 8), "base_filters": 2, "num_layers": 3}


def weights_of(model):
    return np.concatenate([np.ravel(weight) for weight in model.get_weights()])


@pytest.mark.parametrize("normalization", ["none", "batch", "group", "instance"])
def test_the_network_has_the_parameters_that_the_plan_counts(normalization):
    model = build_unet(**SMALL, image_channels=1, num_classes=4, normalization=normalization)
    expected = count_parameters(
        plan_levels(base_filters=2, num_layers=3),
        image_channels=1,
        num_classes=4,
        normalized=normalization != "none",
    )
    assert sum(np.size(weight) for weight in model.trainable_weights) == expected


VARIANTS = [
    {"attention": True},
    {"block": "residual"},
    {"attention": True, "block": "residual", "normalization": "group"},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_variants_have_the_parameters_and_features_that_the_plan_counts(options):
    model = build_unet(**SMALL, image_channels=1, num_classes=4, **options)
    known = {
        "image_channels": 1,
        "num_classes": 4,
        "normalized": "normalization" in options,
        "attention": "attention" in options,
        "residual": "block" in options,
    }
    levels = plan_levels(base_filters=2, num_layers=3)
    assert sum(np.size(w) for w in model.trainable_weights) == count_parameters(levels, **known)
    features = sum(math.prod(layer.output.shape[1:]) for layer in model.layers)
    assert count_features(levels, image_size=(16, 8), **known) == features
    images = np.random.default_rng(0).random((2, 16, 8, 1), np.float32)
    np.testing.assert_allclose(np.asarray(model(images)).sum(-1), 1, atol=1e-5)


def test_the_published_network_has_the_weights_and_names_that_it_had():
    plain = build_unet(**SMALL, seed=3)
    gated = build_unet(**SMALL, seed=3, attention=True)
    names = [weight.path for weight in plain.weights]
    assert not any("attention" in name or "shortcut" in name for name in names)
    assert set(names) < {weight.path for weight in gated.weights}
    encoder = {w.path: np.asarray(w) for w in gated.weights if w.path.startswith("encoder")}
    for weight in plain.weights:
        if weight.path in encoder:
            np.testing.assert_array_equal(np.asarray(weight), encoder[weight.path])


@pytest.mark.parametrize(("options", "reach"), [({}, 10), ({"block": "residual"}, 10)])
def test_a_pixel_sees_as_far_as_two_convolutions_of_each_level_reach(options, reach):
    model = build_unet(image_size=(64, 8), base_filters=2, num_layers=2, seed=0, **options)
    images = np.random.default_rng(0).random((1, 64, 8, 3), np.float32)
    changed = images.copy()
    changed[0, 32] += 1
    before, after = (np.asarray(model(image)) for image in (images, changed))
    rows = np.flatnonzero(np.abs(before - after).max(axis=(0, 2, 3)) > 0)
    # 7 x 7 twice on each side of a level of 5 x 5 at half the size.
    most = 2 * 3 + 2 * (2 * 2) + 1 + 2 * 3
    assert reach <= 32 - rows.min() <= most
    assert reach <= rows.max() - 32 <= most


def test_an_attention_gate_weights_pixels_between_none_and_all():
    model = build_unet(**SMALL, attention=True, seed=1)
    gate = keras.Model(model.inputs[0], model.get_layer("attention_0_weights").output)
    weights = np.asarray(gate(np.random.default_rng(0).random((2, 16, 8, 3), np.float32)))
    assert weights.shape == (2, 16, 8, 1)
    assert 0 < weights.min() < weights.max() < 1


@pytest.mark.parametrize("options", VARIANTS)
def test_variants_come_back_from_their_file(options, tmp_path):
    model = build_unet(**SMALL, **options)
    save_model(model, tmp_path / "a.keras", {})
    images = np.random.default_rng(0).random((1, 16, 8, 3), np.float32)
    read = load_model(tmp_path / "a.keras")
    np.testing.assert_allclose(np.asarray(read(images)), np.asarray(model(images)), atol=1e-6)


def test_an_unknown_block_is_refused():
    with pytest.raises(ValueError, match="block: expected plain or residual"):
        build_unet(**SMALL, block="dense")


def test_probabilities_have_the_images_size_and_sum_to_one():
    model = build_unet(**SMALL, activation="leaky_relu", dilation=(2, 2))
    images = np.random.default_rng(0).random((2, 16, 8, 3), np.float32)
    probabilities = np.asarray(model(images))
    assert probabilities.shape == (2, 16, 8, 9)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_probabilities_are_float32_in_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_unet(**SMALL)
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("bridge_conv_1").compute_dtype == "bfloat16"
    assert model.outputs[0].dtype == "float32"


def test_an_open_size_takes_any_image_that_the_levels_can_halve():
    model = build_unet(image_size=(None, None), base_filters=2, num_layers=3)
    assert model(np.zeros((1, 12, 20, 3), np.float32)).shape == (1, 12, 20, 9)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, same, other = (weights_of(build_unet(**SMALL, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_size_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="image_height: expected a multiple of 4"):
        build_unet(**{**SMALL, "image_size": (18, 16)})


def test_the_summary_names_every_block_and_the_parameter_count():
    model = build_unet(**SMALL)
    summary = summarize(model)
    assert f"Total params: {model.count_params():,}" in summary
    for name in ("encoder_0_conv_1", "bridge_conv_2", "upsample_1", "decoder_0_conv_1"):
        assert name in summary
