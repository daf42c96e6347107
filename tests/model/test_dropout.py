"""Dropout by few random bits beside Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from heartseg.model.checkpoint import load_model, save_model
from heartseg.model.dropout import use_few_random_bits

SHAPE = (3, 41, 43, 7)


def build(rate, *, seed=5, dtype="float32"):
    inputs = keras.Input(SHAPE[1:], dtype=dtype)
    model = keras.Model(inputs, keras.layers.Dropout(rate, seed=seed, dtype=dtype)(inputs))
    use_few_random_bits(model)
    return model


def is_changed(model):
    return ["call" in vars(layer) for layer in model.layers] == [False, True]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rate", [0.04, 0.28, 0.5])
def test_the_share_of_the_rate_is_dropped_and_the_rest_scaled(rate, dtype):
    model = build(rate, dtype=dtype)
    assert is_changed(model)
    found = np.asarray(keras.ops.cast(model(np.ones(SHAPE), training=True), "float32"))
    spread = np.sqrt(rate * (1 - rate) / found.size)
    assert np.mean(found == 0) == pytest.approx(rate, abs=4 * spread)
    tolerance = 1e-4 if dtype == "float32" else 2**-8
    np.testing.assert_allclose(found[found != 0], 1 / (1 - rate), rtol=tolerance)


def test_elements_are_dropped_independently():
    kept = np.asarray(build(0.5)(np.ones(SHAPE), training=True)).ravel() != 0
    # Elements that come of one random number among them.
    for distance in (1, 2, 3, 4, SHAPE[-1], kept.size // 2):
        same = np.mean(kept[distance:] == kept[:-distance])
        assert same == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(kept.size - distance))


def test_the_gradient_goes_where_the_value_went():
    features = tf.constant(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(features)
        found = build(0.3)(features, training=True)
    slopes = tape.gradient(found, features).numpy()
    np.testing.assert_allclose(slopes * features.numpy(), found.numpy(), rtol=1e-6)
    np.testing.assert_allclose(np.unique(slopes), [0, 1 / 0.7], rtol=1e-4)


def test_each_call_draws_anew_and_a_seed_repeats_the_draws():
    model, same, other = build(0.5), build(0.5), build(0.5, seed=6)
    ones = np.ones(SHAPE)
    first, second = (np.asarray(model(ones, training=True)) for _ in range(2))
    assert np.mean(first == second) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(first, same(ones, training=True))
    np.testing.assert_array_equal(second, same(ones, training=True))
    assert np.mean(first == np.asarray(other(ones, training=True))) == pytest.approx(0.5, abs=0.02)


def test_nothing_is_dropped_but_in_training():
    features = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    for options in ({}, {"training": False}):
        np.testing.assert_array_equal(build(0.5)(features, **options), features)


def test_other_layers_stay_with_keras():
    inputs = keras.Input((8, 8, 2))
    shared = keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 2))(inputs)
    spatial = keras.layers.SpatialDropout2D(0.5)(shared)
    nothing = keras.layers.Dropout(0.0)(spatial)
    model = keras.Model(inputs, keras.layers.Dropout(1.0)(nothing))
    use_few_random_bits(model)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_what_is_saved_stays_plain(tmp_path):
    save_model(build(0.5), tmp_path / "m.keras", {})
    again = load_model(tmp_path / "m.keras")
    assert not is_changed(again)
    assert again.layers[1].rate == 0.5
