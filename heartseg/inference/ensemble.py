"""Several models of one kind as one: the networks of the folds of a study, averaged."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.training_record import join_records
from heartseg.errors import ModelError
from heartseg.inference.segmenter import Segmenter, SliceSegmenter
from heartseg.inference.slice_prediction import Predict
from heartseg.inference.views import PredictVolume
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.modelfile.description import ModelDescription


def combine(segmenters: Sequence[Segmenter]) -> Segmenter:
    """Return one segmenter that averages the probabilities of several.

    It sees a scan as each of them does; only their networks differ.

    Args:
        segmenters: At least one; all of one kind, recipe, grid and label map.

    Raises:
        ModelError: If their models do not fit together.
    """
    model = describe_ensemble([segmenter.model for segmenter in segmenters])
    slices = [segmenter for segmenter in segmenters if isinstance(segmenter, SliceSegmenter)]
    hearts = [segmenter for segmenter in segmenters if isinstance(segmenter, WholeHeartSegmenter)]
    if len(slices) == len(segmenters):
        predict = average_probabilities([segmenter.predict for segmenter in slices])
        return replace(slices[0], predict=predict, model=model)
    if len(hearts) == len(segmenters):
        predict_volume = average_logits([segmenter.predict for segmenter in hearts])
        return replace(hearts[0], predict=predict_volume, model=model)
    raise ModelError("an ensemble needs networks of one kind, found several kinds")


def describe_ensemble(models: Sequence[ModelDescription]) -> ModelDescription:
    """Describe several models as one, which has learned from the cases of all.

    Args:
        models: At least one.

    Raises:
        ModelError: If they are of different kinds, recipes, grids or label maps.
    """
    first = models[0]
    for other in models[1:]:
        if (other.kind, other.recipe, other.table, other.grid) != (
            first.kind,
            first.recipe,
            first.table,
            first.grid,
        ):
            raise ModelError(
                "expected models of one kind, slice recipe, grid and label map for an ensemble; "
                f"{first.identity} and {other.identity} differ"
            )
    records = [model.record for model in models if model.record is not None]
    return replace(
        first,
        identity=f"{len(models)} models: {'; '.join(model.identity for model in models)}",
        record=join_records(records) if len(records) == len(models) else None,
        # What a stability means was measured with single networks.
        calibration=None,
    )


def average_probabilities(members: Sequence[Predict]) -> Predict:
    """Return a function that gives the mean of the probabilities of several networks of slices."""

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return _mean([member(images) for member in members])

    return predict


def average_logits(members: Sequence[PredictVolume]) -> PredictVolume:
    """Return a function that gives logits of the mean probabilities of several networks."""

    def predict(image: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = _mean([_softmax(member(image)) for member in members])
        # The smallest positive number in place of 0, which has no logarithm.
        return np.log(np.maximum(mean, np.finfo(np.float32).tiny))

    return predict


def _mean(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total += part
    return np.asarray(total / len(parts), np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)
