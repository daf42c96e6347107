"""Adam in one pass beside Keras's own."""

import keras
import numpy as np
import pytest

from heartseg.model import optimizer as module
from heartseg.model.checkpoint import load_model, save_model
from heartseg.model.optimizer import OnePassAdam, build_optimizer
from heartseg.model.precision import dtype_policy
from heartseg.model.unet import build_unet

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
    monkeypatch.setattr(module, "MANY_WEIGHTS", 1)


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
    monkeypatch.setattr(module, "MANY_WEIGHTS", 1)
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
