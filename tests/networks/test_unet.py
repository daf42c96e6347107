import keras
import numpy as np
import pytest

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
