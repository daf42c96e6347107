"""A Keras model as a compiled function from images to probabilities."""

from collections import Counter
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.inference.slice_prediction import Predict
from heartseg.inference.views import PredictVolume
from heartseg.modelfile.keras_settings import own_settings
from heartseg.native_notes import native_notes_hidden
from heartseg.slices.recipe import SliceRecipe

if TYPE_CHECKING:
    import tensorflow as tf


def compile_predict(model: keras.Model, recipe: SliceRecipe, *, batch_size: int) -> Predict:
    """Wrap a model as a function that is compiled once, however many images a batch holds.

    The function computes in the precision that the model was saved with.

    Args:
        model: From images to probabilities.
        recipe: How the images are made.
        batch_size: Images in the largest batch.

    Raises:
        ModelError: If the model's input does not fit the recipe.
    """
    expected = (recipe.image_height, recipe.image_width, recipe.channels)
    shape = model.input_shape
    fits = isinstance(shape, tuple) and len(shape) == 4
    if not fits or any(
        size not in (None, wanted) for size, wanted in zip(shape[1:], expected, strict=True)
    ):
        raise ModelError(
            f"the model takes images of shape {shape}, its recipe makes {(None, *expected)}"
        )
    if keras.backend.backend() == "tensorflow":
        return _quiet_at_first(_compile_tensorflow(model, expected))
    return _quiet_at_first(_compile_padded(model, batch_size))


def compile_volume_predict(model: keras.Model) -> PredictVolume:
    """Wrap a model of whole volumes as a plain function, compiled once."""
    if keras.backend.backend() != "tensorflow":
        return _quiet_at_first(
            lambda images: np.asarray(
                keras.ops.convert_to_numpy(model.predict_on_batch(images)), np.float32
            )
        )
    import tensorflow as tf

    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)]
    compiled = tf.function(
        lambda images: _call(model, images), input_signature=signature, autograph=False
    )
    return _quiet_at_first(lambda images: np.asarray(compiled(tf.constant(images)), np.float32))


def as_float32(model: keras.Model) -> keras.Model:
    """Return a model that computes in float32 with the same weights."""
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def build(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=build)
    copy.set_weights(model.get_weights())
    return copy


def find_precision(model: keras.Model) -> str:
    """Return the number format that most layers of a model compute in."""
    formats = Counter(layer.compute_dtype for layer in model.layers if layer.weights)
    return str(formats.most_common(1)[0][0]) if formats else "float32"


def _call(model: keras.Model, images: "tf.Tensor") -> "tf.Tensor":
    with own_settings():
        return model(images, training=False)


def _quiet_at_first(predict: Predict) -> Predict:
    """Hide what the backend writes as it computes for the first time, and loads its libraries."""
    is_first = True

    def predict_quietly(images: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal is_first
        if not is_first:
            return predict(images)
        with native_notes_hidden():
            probabilities = predict(images)
        is_first = False
        return probabilities

    return predict_quietly


def _compile_tensorflow(model: keras.Model, image_shape: tuple[int, int, int]) -> Predict:
    import tensorflow as tf

    # A free batch dimension: the last, smaller batch is not traced again.
    signature = [tf.TensorSpec((None, *image_shape), tf.float32)]
    compiled = tf.function(
        lambda images: _call(model, images), input_signature=signature, autograph=False
    )

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(compiled(tf.constant(images)), np.float32)
        except tf.errors.ResourceExhaustedError as error:
            raise ModelError(
                f"there is not enough memory for {len(images)} slices at once; lower "
                "infer.batch_size (or evaluate.batch_size)"
            ) from error

    return predict


def _compile_padded(model: keras.Model, batch_size: int) -> Predict:
    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        # Compiled for one size: a smaller batch is filled up.
        missing = max(batch_size - len(images), 0)
        padded = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
        probabilities = keras.ops.convert_to_numpy(model.predict_on_batch(padded))
        return np.asarray(probabilities[: len(images)], np.float32)

    return predict
