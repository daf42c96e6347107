"""Initial weights of a training: those of the packaged model, or those of another run."""

from pathlib import Path

import keras
import numpy as np

from heartseg.errors import ModelError
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.modelfile.packaged import describe_packaged, load_packaged


def load_initial_weights(
    model: keras.Model, file: str | Path | None, *, second_stage: bool = False
) -> None:
    """Give a new network the weights of a trained network with the same shapes.

    Args:
        model: The new network; its weights are replaced.
        file: A ``.keras`` file; None: the packaged model.
        second_stage: Whether the network is a second stage.

    Raises:
        ModelError: If there is no such model, or its weights have other shapes.
    """
    source = (
        load_packaged(second_stage=second_stage)
        if file is None
        else load_model(Path(file), second_stage=second_stage)
    )
    name = "the packaged model" if file is None else str(file)
    section = "second_stage" if second_stage else "model"
    wanted = [tuple(weight.shape) for weight in model.weights]
    found = [tuple(weight.shape) for weight in source.weights]
    if wanted != found:
        differing = next(
            (pair for pair in zip(wanted, found, strict=False) if len(set(pair)) > 1), None
        )
        raise ModelError(
            f"train.init: expected the {len(wanted)} weight arrays of the network of this "
            f"configuration, found {len(found)} in {name}; the first shapes that differ (expected, "
            f"found): {differing}. Use the section {section} of the run that the weights come from"
        )
    model.set_weights([np.asarray(weight) for weight in source.weights])


def has_second_stage(file: str | Path | None) -> bool:
    """Return whether a model has a second stage.

    Args:
        file: A ``.keras`` file; None: the packaged model.

    Raises:
        ModelError: If there is no such model.
    """
    if file is None:
        return describe_packaged().description.second_stage is not None
    return read_metadata(Path(file)).get("second_stage") is not None
