"""The average of the weights: when it is kept, and how it takes the place of the last ones."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from heartseg.networks.unet import build_unet
from heartseg.training.averaging import averaged_weights, cosine_rate, keeps_average
from heartseg.training.loop import compile_model
from heartseg.training.precision import dtype_policy

rng = np.random.default_rng(8)
IMAGES = rng.random((2, 8, 8, 3), np.float32)
LABELS = rng.integers(0, 9, (2, 8, 8), np.uint8)


def trained(policy, momentum):
    with dtype_policy(policy):
        model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2, seed=6)
        compile_model(
            model,
            learning_rate=0.01,
            clipvalue=0.5,
            average_momentum=momentum,
            loss=keras.losses.SparseCategoricalCrossentropy(),
            metrics=[],
        )
    seen = [model.get_weights()]
    for _ in range(2):
        model.train_on_batch(IMAGES, LABELS)
        seen.append(model.get_weights())
    return model, seen


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_the_average_takes_the_place_of_the_last_weights_for_a_while(policy):
    model, (_, first, last) = trained(policy, momentum=0.75)
    assert keeps_average(model)

    with averaged_weights(model):
        found = model.get_weights()

    # Keras starts the average at the first weights after a step.
    for average, one, two in zip(found, first, last, strict=True):
        np.testing.assert_allclose(average, 0.75 * one + 0.25 * two, rtol=1e-5, atol=1e-6)
    for now, two in zip(model.get_weights(), last, strict=True):
        np.testing.assert_array_equal(now, two)


def test_without_an_average_nothing_changes():
    model, (*_, last) = trained("float32", momentum=0.0)
    assert not keeps_average(model)
    with averaged_weights(model):
        for now, before in zip(model.get_weights(), last, strict=True):
            np.testing.assert_array_equal(now, before)


def test_a_model_that_was_never_compiled_keeps_no_average():
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2)
    assert not keeps_average(model)


def test_the_rate_rises_for_three_epochs_and_falls_to_two_percent():
    rates = [cosine_rate(epoch, epochs=20, learning_rate=1.0) for epoch in range(20)]
    assert rates[0] == pytest.approx(1 / 3)
    assert rates[0] < rates[1] < rates[2] <= 1
    # Half way the cosine is at one half: 0.02 + 0.98 / 2.
    assert rates[10] == pytest.approx(0.51)
    assert all(later < earlier for earlier, later in pairwise(rates[2:]))
    # The last of 20 epochs: 0.02 + 0.98 * (1 + cos(0.95 pi)) / 2.
    assert rates[-1] == pytest.approx(0.026, abs=5e-4)


def test_the_rate_stays_at_its_end_after_the_last_epoch():
    last, later = (cosine_rate(epoch, epochs=10, learning_rate=1.0) for epoch in (10, 25))
    assert later == last == pytest.approx(0.02)


def test_the_weights_are_restored_after_an_error():
    model, (*_, last) = trained("float32", momentum=0.75)
    with pytest.raises(ValueError, match="broken"), averaged_weights(model):
        raise ValueError("broken")
    for now, before in zip(model.get_weights(), last, strict=True):
        np.testing.assert_array_equal(now, before)
