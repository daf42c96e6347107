"""Ensembles: models of one kind, such as those of the folds of a study, that segment together."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.training_record import join_records
from heartseg.errors import ModelError
from heartseg.inference.segmenter import Segmenter, SliceSegmenter
from heartseg.inference.slice_prediction import Predict
from heartseg.inference.views import PredictVolume, softmax
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.modelfile.description import ModelDescription


def combine(segmenters: Sequence[Segmenter]) -> Segmenter:
    """Build a segmenter that averages the probabilities of several.

    Each of them would prepare a scan in the same way; only their networks differ.

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
        second = [segmenter.correct for segmenter in hearts if segmenter.correct is not None]
        correct = average_logits(second) if second else None
        return replace(hearts[0], predict=predict_volume, model=model, correct=correct)
    raise ModelError("an ensemble needs networks of one kind, found several kinds")


def describe_ensemble(models: Sequence[ModelDescription]) -> ModelDescription:
    """Describe an ensemble of models.

    Its training cases are those of all its models, so a scan that any of them has seen is known.

    Args:
        models: At least one.

    Raises:
        ModelError: If they are of different kinds, recipes, grids, second stages or label maps.
    """
    first = models[0]
    for other in models[1:]:
        if _essence(other) != _essence(first):
            raise ModelError(
                "expected models of one kind, slice recipe, grid, second stage and label map for "
                f"an ensemble; {first.identity} and {other.identity} differ"
            )
    records = [model.record for model in models if model.record is not None]
    return replace(
        first,
        identity=f"{len(models)} models: {'; '.join(model.identity for model in models)}",
        record=join_records(records) if len(records) == len(models) else None,
        # What a stability means was measured with single networks.
        calibration=None,
    )


def _essence(model: ModelDescription) -> tuple[object, ...]:
    return model.kind, model.recipe, model.table, model.grid, model.second_stage


def average_probabilities(members: Sequence[Predict]) -> Predict:
    """Return a function that gives the mean of the probabilities of several networks of slices."""

    def predict(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return _mean([member(images) for member in members])

    return predict


def average_logits(members: Sequence[PredictVolume]) -> PredictVolume:
    """Return a function that gives logits of the mean probabilities of several networks."""

    def predict(image: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = _mean([softmax(member(image)) for member in members])
        # The smallest positive number in place of 0, which has no logarithm.
        return np.log(np.maximum(mean, np.finfo(np.float32).tiny))

    return predict


def _mean(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    total = parts[0].astype(np.float32)
    for part in parts[1:]:
        total += part
    return np.asarray(total / len(parts), np.float32)
