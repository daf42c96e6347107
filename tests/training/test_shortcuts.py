"""Each shortcut beside what Keras does by itself."""

import keras
import numpy as np
import pytest

from heartseg.modelfile.checkpoint import load_model, save_model
from heartseg.networks.unet import build_unet
from heartseg.training import shortcuts as module
from heartseg.training.precision import dtype_policy
from heartseg.training.shortcuts import OnePassAdam, build_optimizer, use_products

rng = np.random.default_rng(5)
IMAGES = rng.random((2, 8, 8, 3), np.float32)
LABELS = rng.integers(0, 9, (2, 8, 8), np.uint8)


def small_network() -> keras.Model:
    return build_unet(image_size=(8, 8), base_filters=2, num_layers=2, dropout_rate=0, seed=6)


def trained(policy="float32", **options) -> keras.Model:
    with dtype_policy(policy):
        model = small_network()
    model.compile(
        optimizer=build_optimizer(model, 0.001, **options), loss="sparse_categorical_crossentropy"
    )
    for _ in range(5):
        model.train_on_batch(IMAGES, LABELS)
    return model


@pytest.fixture
def few_are_many(monkeypatch):
    monkeypatch.setattr(module, "LARGE_NETWORK", 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clipvalue": 0.01},
        {"clipnorm": 0.1, "weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.7},
        {"clipnorm": 0.1, "policy": "mixed_bfloat16"},
    ],
)
def test_one_pass_takes_the_same_steps(options, monkeypatch):
    plain = trained(**options)
    monkeypatch.setattr(module, "LARGE_NETWORK", 1)
    one_pass = trained(**options)
    assert type(plain.optimizer) is keras.optimizers.Adam
    assert type(one_pass.optimizer) is OnePassAdam
    assert int(one_pass.optimizer.iterations) == 5
    for mine, theirs in zip(one_pass.optimizer.variables, plain.optimizer.variables, strict=True):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-3, atol=1e-5)
    for mine, theirs in zip(one_pass.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_gradients_are_handed_over_as_they_were_before_a_cast(few_are_many, monkeypatch):
    seen = []
    real = module._before_cast
    monkeypatch.setattr(
        module, "_before_cast", lambda gradient: seen.append(real(gradient)) or seen[-1]
    )
    count = len(trained("mixed_bfloat16").trainable_variables)
    # The last layer, of a kernel and a bias, computes in float32.
    types = [gradient.dtype.name for gradient in seen[:count]]
    assert types == ["bfloat16"] * (count - 2) + ["float32"] * 2


def test_the_update_is_compiled(few_are_many, monkeypatch):
    compiled = []
    real = module.tf.function
    monkeypatch.setattr(
        module.tf,
        "function",
        lambda *a, **k: compiled.append(k.get("jit_compile")) or real(*a, **k),
    )
    trained(clipvalue=0.01)
    assert True in compiled


def test_a_saved_state_goes_on_where_it_was(few_are_many, tmp_path):
    model = trained(clipvalue=0.01, weight_decay=0.1)
    save_model(model, tmp_path / "last.keras", {}, with_optimizer=True)
    again = load_model(tmp_path / "last.keras", compiled=True)
    assert type(again.optimizer) is OnePassAdam
    for network in (model, again):
        network.train_on_batch(IMAGES, LABELS)
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_decay_makes_it_adamw():
    model = small_network()
    model.compile(
        optimizer=keras.optimizers.AdamW(0.001, weight_decay=0.1),
        loss="sparse_categorical_crossentropy",
    )
    for _ in range(5):
        model.train_on_batch(IMAGES, LABELS)
    ours = trained(weight_decay=0.1)
    for mine, theirs in zip(ours.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture
def small_is_large(monkeypatch):
    monkeypatch.setattr(module, "LARGE_KERNEL", 1)


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
def test_products_are_the_same_convolution(kind, options, small_is_large):
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
    monkeypatch.setattr(module, "LARGE_KERNEL", 3 * 3 * 4 * 8)
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


def test_sides_that_vary_and_strides_stay_with_keras(small_is_large):
    free = build_unet(image_size=(None, None), base_filters=2, num_layers=2, seed=1)
    inputs = keras.Input((4, 4, 3))
    strided = keras.Model(inputs, keras.layers.Conv2D(2, 3, strides=2, padding="same")(inputs))
    for model in (free, strided):
        use_products(model)
        assert not any(map(is_changed, model.layers))


def test_what_is_saved_stays_plain(tmp_path, small_is_large):
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2, seed=1)
    images = rng.random((1, 8, 8, 3), np.float32)
    before = model.predict(images, verbose=0)
    use_products(model)
    save_model(model, tmp_path / "m.keras", {})
    again = load_model(tmp_path / "m.keras")
    assert not any(map(is_changed, again.layers))
    np.testing.assert_allclose(again.predict(images, verbose=0), before, atol=1e-6)
