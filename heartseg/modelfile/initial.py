"""Weights to start from: those that come with the package, or those of another run."""

from pathlib import Path

import keras
import numpy as np

from heartseg.errors import ModelError
from heartseg.modelfile.checkpoint import load_model
from heartseg.modelfile.packaged import load_packaged


def load_initial(model: keras.Model, file: str | Path | None) -> None:
    """Give a new network the weights of a trained one of the same shape.

    Args:
        model: The network.
        file: A ``.keras`` file; None: the packaged model.

    Raises:
        ModelError: If there is none, or its weights have other shapes.
    """
    source = load_packaged() if file is None else load_model(Path(file))
    name = "the packaged model" if file is None else str(file)
    wanted = [tuple(weight.shape) for weight in model.weights]
    found = [tuple(weight.shape) for weight in source.weights]
    if wanted != found:
        differing = next(
            (pair for pair in zip(wanted, found, strict=False) if len(set(pair)) > 1), None
        )
        raise ModelError(
            f"train.init: {name} has {len(found)} weight arrays, the network of this configuration "
            f"{len(wanted)}; the first that differ (wanted, found): {differing}. Use the section "
            "model of the run that the weights come from"
        )
    model.set_weights([np.asarray(weight) for weight in source.weights])
