import keras
import numpy as np
import pytest

from heartseg.networks.blocks import conv_block, normalize, seed_sequence, upsample
from heartseg.networks.plan import Level

LEVEL = Level(index=1, filters=6, kernel=(5, 3), dilation=(1, 1), dropout=0.1)


def build_block(normalization):
    images = keras.Input((8, 8, 3))
    features = conv_block(
        images,
        LEVEL,
        normalization=normalization,
        activation="relu",
        next_seed=seed_sequence(1),
        name="block",
    )
    return keras.Model(images, features)


def test_dropout_stands_between_the_two_convolutions():
    names = [layer.name for layer in build_block("none").layers[1:]]
    expected = ["conv_1", "relu_1", "dropout", "conv_2", "relu_2"]
    assert names == [f"block_{part}" for part in expected]


def test_normalisation_stands_between_convolution_and_activation():
    names = [layer.name for layer in build_block("batch").layers[1:4]]
    assert names == ["block_conv_1", "block_norm_1", "block_relu_1"]


def test_a_block_keeps_height_and_width():
    assert build_block("group").output_shape == (None, 8, 8, 6)


@pytest.mark.parametrize(("kind", "axes"), [("instance", (1, 2)), ("group", (1, 2, 3))])
def test_normalised_features_have_mean_0_and_variance_1(kind, axes):
    # Six channels are gcd(6, 8) = 2 groups of three.
    images = keras.Input((8, 8, 6))
    model = keras.Model(images, normalize(images, kind, name="norm"))
    features = np.random.default_rng(0).normal(3, 2, (2, 8, 8, 6)).astype(np.float32)
    result = np.asarray(model(features))
    if kind == "group":
        result = result[..., :3]
    np.testing.assert_allclose(result.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(result.var(axes), 1, atol=1e-2)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="expected none, batch, group or instance, got 'layer'"):
        normalize(keras.Input((8, 8, 6)), "layer", name="norm")


def test_upsampling_doubles_height_and_width():
    features = upsample(keras.Input((4, 6, 5)), 3, next_seed=seed_sequence(None), name="up")
    assert features.shape == (None, 8, 12, 3)


def test_a_seed_gives_each_layer_its_own_and_always_the_same_seeds():
    first, second = seed_sequence(5), seed_sequence(5)
    seeds = [first() for _ in range(20)]
    assert len(set(seeds)) == 20
    assert seeds == [second() for _ in range(20)]
    assert seed_sequence(None)() is None
