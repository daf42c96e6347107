import keras
import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.inference.network import _compile_padded, compile_predict
from heartseg.networks.unet import build_unet
from heartseg.slices.recipe import SliceRecipe

RECIPE = SliceRecipe(image_height=32, image_width=48, image_channels=1)


@pytest.fixture(scope="module")
def model():
    return build_unet(
        image_size=(32, 48), image_channels=1, num_layers=3, base_filters=4, num_classes=5, seed=1
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((7, 32, 48, 1), np.float32)


def test_probabilities_are_those_of_the_model(model, images):
    predict = compile_predict(model, RECIPE, batch_size=4)

    probabilities = predict(images)

    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, np.asarray(model(images, training=False)), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("compile_", ["native", "padded"])
def test_probabilities_do_not_depend_on_the_batch(model, images, compile_):
    predict = (
        compile_predict(model, RECIPE, batch_size=7)
        if compile_ == "native"
        else _compile_padded(model, 7)
    )

    at_once = predict(images)
    apart = np.concatenate([predict(images[:3]), predict(images[3:4]), predict(images[4:])])

    np.testing.assert_allclose(apart, at_once, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="traces are TensorFlow's")
def test_a_smaller_batch_is_not_traced_again(images):
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, features):
            calls.append(features.shape)
            return features

    inputs = keras.Input((32, 48, 1))
    model = keras.Model(inputs, Counting()(inputs))
    predict = compile_predict(model, RECIPE, batch_size=4)
    before = len(calls)
    for size in (4, 3, 1, 4):
        predict(images[:size])

    assert len(calls) == before + 1


def test_a_model_for_other_images_is_refused(model):
    with pytest.raises(ModelError, match=r"32, 48, 1.*32, 48, 3"):
        compile_predict(
            model, SliceRecipe(image_height=32, image_width=48, image_channels=3), batch_size=4
        )


def test_a_model_with_free_sides_takes_any_size():
    model = build_unet(image_size=(None, None), image_channels=1, num_layers=2, base_filters=2)

    predict = compile_predict(model, RECIPE, batch_size=2)

    assert predict(np.zeros((1, 32, 48, 1), np.float32)).shape == (1, 32, 48, 9)
