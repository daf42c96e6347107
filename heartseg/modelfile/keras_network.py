"""The network of a ``.keras`` file, read without Keras: its layers and its weights."""

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.modelfile.archive import (
    CONFIG_MEMBER,
    UNREADABLE,
    WEIGHTS_MEMBER,
    inspect_archive,
    open_archive,
    read_json,
)
from heartseg.modelfile.layers import WEIGHT_NAMES, Architecture


def read_network(file: Path) -> tuple[Architecture, dict[str, NDArray[Any]]]:
    """Read layers and weights of a model file. It may be of unknown origin: it is checked first.

    Keras numbers the layers of each kind in their order, and their weights from 0.

    Raises:
        ModelError: If the file is missing, damaged, or holds anything but a plain network.
    """
    import h5py

    inspect_archive(file)
    weights: dict[str, NDArray[Any]] = {}
    numbers: Counter[str] = Counter()
    try:
        with open_archive(file) as archive:
            config = read_json(archive, CONFIG_MEMBER, file)
            architecture = Architecture.from_config(config["config"])
            content = io.BytesIO(archive.read(WEIGHTS_MEMBER))
        with h5py.File(content, "r") as stored:
            for layer in architecture.layers:
                if layer.kind not in WEIGHT_NAMES:
                    continue
                kind = WEIGHT_NAMES[layer.kind][0]
                number = numbers[kind]
                numbers[kind] += 1
                arrays = stored[f"layers/{kind}_{number}" if number else f"layers/{kind}"]["vars"]
                for index, name in enumerate(layer.weight_names):
                    weights[name] = np.asarray(arrays[str(index)], np.float32)
    except (*UNREADABLE, AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: {WEIGHTS_MEMBER} does not fit its network ({error})") from error
    return architecture, weights
