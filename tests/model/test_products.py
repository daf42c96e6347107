"""Convolutions as products beside Keras's own."""

import keras
import numpy as np
import pytest

from heartseg.model import products
from heartseg.model.checkpoint import load_model, save_model
from heartseg.model.products import use_products
from heartseg.model.unet import build_unet

rng = np.random.default_rng(7)


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr(products, "MANY_WEIGHTS", 1)


def gradients(model, images, targets):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        found = model(images, training=True)
        loss = keras.ops.mean((found - targets) ** 2)
    return found.numpy(), [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]


def is_changed(layer):
    return not {"convolution_op", "call"}.isdisjoint(vars(layer))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Conv2D", {"kernel_size": 3}),
        ("Conv2D", {"kernel_size": (5, 3), "use_bias": False}),
        ("Conv2D", {"kernel_size": 2}),
        ("Conv2D", {"kernel_size": 3, "dilation_rate": 2}),
        ("Conv2D", {"kernel_size": 9, "activation": "relu"}),
        ("Conv2DTranspose", {"kernel_size": 2, "strides": 2}),
        ("Conv2DTranspose", {"kernel_size": (3, 2), "strides": (3, 2), "use_bias": False}),
        ("Conv2DTranspose", {"kernel_size": 2, "strides": 2, "activation": "relu"}),
    ],
)
def test_products_are_the_same_convolution(kind, options, few_are_many):
    images = rng.normal(size=(3, 4, 6, 5)).astype(np.float32)
    inputs = keras.Input((4, 6, 5))
    layer = getattr(keras.layers, kind)(
        7, padding="same", bias_initializer="random_normal", **options
    )
    model = keras.Model(inputs, layer(inputs))
    targets = rng.normal(size=(3, *model.output_shape[1:])).astype(np.float32)
    value, slopes = gradients(model, images, targets)
    use_products(model)
    assert is_changed(layer)
    same_value, same_slopes = gradients(model, images, targets)
    np.testing.assert_allclose(same_value, value, atol=1e-5)
    for mine, theirs in zip(same_slopes, slopes, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_only_deep_convolutions_of_many_weights_change(monkeypatch):
    monkeypatch.setattr(products, "MANY_WEIGHTS", 3 * 3 * 4 * 8)
    model = build_unet(image_size=(32, 32), base_filters=2, num_layers=4, seed=1)
    use_products(model)
    changed = [layer.name for layer in model.layers if is_changed(layer)]
    # Levels of 8x8 and 4x4 pixels, none of 16x16.
    assert changed == [
        "encoder_2_conv_1",
        "encoder_2_conv_2",
        "bridge_conv_1",
        "bridge_conv_2",
        "upsample_2",
        "decoder_2_conv_1",
        "decoder_2_conv_2",
    ]


def test_sides_that_vary_and_strides_stay_with_keras(few_are_many):
    free = build_unet(image_size=(None, None), base_filters=2, num_layers=2, seed=1)
    inputs = keras.Input((4, 4, 3))
    strided = keras.Model(inputs, keras.layers.Conv2D(2, 3, strides=2, padding="same")(inputs))
    for model in (free, strided):
        use_products(model)
        assert not any(map(is_changed, model.layers))


def test_what_is_saved_stays_plain(tmp_path, few_are_many):
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2, seed=1)
    images = rng.random((1, 8, 8, 3), np.float32)
    before = model.predict(images, verbose=0)
    use_products(model)
    save_model(model, tmp_path / "m.keras", {})
    again = load_model(tmp_path / "m.keras")
    assert not any(map(is_changed, again.layers))
    np.testing.assert_allclose(again.predict(images, verbose=0), before, atol=1e-6)
