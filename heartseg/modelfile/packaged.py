"""Reading the model that is shipped with heartseg: its weights, its description and its card.

The folder ``heartseg/packaged`` holds ``whole_heart.npz``, the weights in half precision,
``whole_heart.json``, the layers of the network, and ``model.json``, which describes network and
training and holds the checksums of both. ``tools/package_weights.py`` writes all three. Keras gets
the weights to train on, and ONNX Runtime a graph that is joined from layers and weights in memory.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.training_record import TrainingRecord, record_from_json
from heartseg.errors import ModelError
from heartseg.labels import HVSMR
from heartseg.modelfile.description import (
    WHOLE_HEART,
    WHOLE_HEART_VIEW,
    Calibration,
    ModelDescription,
)
from heartseg.modelfile.keras_settings import own_settings
from heartseg.modelfile.layers import Architecture
from heartseg.modelfile.onnx_format import OnnxModel
from heartseg.modelfile.onnx_graph import build_graph

if TYPE_CHECKING:
    import keras

PACKAGED_DIR = Path(__file__).parents[1] / "packaged"
WEIGHTS = "whole_heart.npz"
LAYERS = "whole_heart.json"
DESCRIPTION = "model.json"
TEMPLATE = "model-card.md.jinja"
LICENCE = (
    "CC BY 4.0: derived from HVSMR-2.0 (https://doi.org/10.1038/s41597-024-03469-9) and "
    "TensorFlow-FlexUNet-Image-Segmentation-Whole-Heart-HVSMR-2.0. For research and teaching only; "
    "not a medical device"
)
"""Of the weights, as the model card states it."""


CALIBRATION = Calibration(doubtful=0.75, sure=0.85, hopeless=0.68, usual=0.93)
"""Measured with the packaged weights, as means over the structures: 0.95 or more on pat4 and pat58
(which the weights have seen), also with margins of zeros; 0.94 and 0.95 on slices of two patients,
set into volumes, whose images they have not seen; 0.80 and 0.81 on the first two upside down, 0.73
and 0.74 with inverted contrast, and 0.60 or less on noise and shuffled voxels."""


@dataclass(frozen=True)
class PackagedModel:
    """The description of the packaged model.

    Attributes:
        name: Name of the model.
        grid: Voxels that the network sees along each axis.
        filters: Channels of each level of the network.
        num_classes: Classes, background included.
        facts: All of ``model.json``: training, data, scores, checksum.
    """

    name: str
    grid: tuple[int, int, int]
    filters: tuple[int, ...]
    num_classes: int
    facts: Mapping[str, Any]

    @property
    def description(self) -> ModelDescription:
        """What the model was trained for, and what its stability means."""
        return ModelDescription(
            WHOLE_HEART_VIEW,
            HVSMR,
            WHOLE_HEART,
            self.grid,
            f"{self.name}, sha256 {str(self.facts.get('sha256'))[:12]}",
            self.record,
            CALIBRATION,
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """What a file with this model says of it; see ``ModelDescription.from_metadata``."""
        return {
            "heartseg": str(self.facts.get("code_version")),
            "kind": WHOLE_HEART,
            "labels": HVSMR.description,
            "network": {"grid": list(self.grid), "filters": list(self.filters)},
            "calibration": asdict(CALIBRATION),
            "learned_from": self.facts["learned_from"],
            "identity": self.description.identity,
        }

    @property
    def record(self) -> TrainingRecord:
        """What the weights learned from."""
        return record_from_json(self.facts["learned_from"])

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], *, source: str) -> "PackagedModel":
        """Read the description.

        Raises:
            ModelError: If an entry is missing or makes no sense.
        """
        try:
            network = facts["network"]
            record_from_json(facts["learned_from"])
            first, second, third = (int(side) for side in network["grid"])
            return cls(
                str(facts["name"]),
                (first, second, third),
                tuple(int(width) for width in network["filters"]),
                int(network["num_classes"]),
                facts,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{source}: the model's description is broken ({error!r})") from error


def is_installed(folder: Path = PACKAGED_DIR) -> bool:
    """Return whether this installation has a packaged model."""
    return (folder / DESCRIPTION).is_file()


def describe_packaged(folder: Path = PACKAGED_DIR) -> PackagedModel:
    """Read the description of the packaged model, without loading the model.

    Raises:
        ModelError: If there is none, or its description is damaged.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise ModelError(
            "no trained model is packaged in this installation; name the CONFIG of a run that you "
            "trained with `heartseg train`"
        )
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); install heartseg again") from error
    if not isinstance(facts, dict):
        raise ModelError(f"{file}: expected a JSON object; install heartseg again")
    return PackagedModel.from_facts(facts, source=str(file))


def load_packaged(folder: Path = PACKAGED_DIR) -> "keras.Model":
    """Build the packaged network with its weights, after checking their checksum.

    Raises:
        ModelError: If there is no packaged model, or a file is damaged or was changed.
    """
    described = describe_packaged(folder)
    weights = _read_weights(folder / WEIGHTS, str(described.facts.get("sha256")))

    # Only now, when the files are known to be whole: TensorFlow takes seconds to load.
    from heartseg.networks.volume_unet import build_volume_unet

    try:
        with own_settings():
            model = build_volume_unet(
                grid=described.grid, filters=described.filters, num_classes=described.num_classes
            )
        for variable in model.variables:
            variable.assign(weights.pop(variable.path).astype(np.float32))
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{folder / WEIGHTS}: does not fit the network that {DESCRIPTION} describes ({error}); "
            "install heartseg again"
        ) from error
    if weights:
        raise ModelError(
            f"{folder / WEIGHTS}: holds arrays that the network does not have: "
            f"{', '.join(sorted(weights)[:3])}; install heartseg again"
        )
    return model


def load_packaged_graph(folder: Path = PACKAGED_DIR) -> OnnxModel:
    """Return the packaged network as an ONNX graph, after checking the checksums, without Keras.

    Raises:
        ModelError: If there is no packaged model, or a file is damaged or was changed.
    """
    described = describe_packaged(folder)
    facts = described.facts
    layers = _read_checked(folder / LAYERS, str(facts.get("layers_sha256")))
    weights = _read_weights(folder / WEIGHTS, str(facts.get("sha256")))
    try:
        architecture = Architecture.from_dict(json.loads(layers))
        return build_graph(architecture, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / LAYERS}: does not fit {WEIGHTS} ({error}); install heartseg again"
        ) from error


def render_card(folder: Path = PACKAGED_DIR) -> str:
    """Return the model card in Markdown. Every figure in it comes from ``model.json``.

    Raises:
        ModelError: If the description is damaged or lacks an entry.
    """
    import jinja2

    facts = describe_packaged(folder).facts if is_installed(folder) else None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # The result is Markdown, not HTML.
        autoescape=False,  # noqa: S701
    )
    # The template always comes from the package, whatever the folder of the model.
    text = (PACKAGED_DIR / TEMPLATE).read_text(encoding="utf-8")
    try:
        return environment.from_string(text).render(model=facts)
    except (jinja2.UndefinedError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / DESCRIPTION}: lacks an entry that the model card needs ({error})"
        ) from error


def _read_checked(file: Path, expected: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelError(
            f"{file}: expected the checksum {expected[:12]}..., found {found[:12]}...: the file is "
            "incomplete or was changed; install heartseg again"
        )
    return content


def _read_weights(file: Path, expected: str) -> dict[str, NDArray[Any]]:
    content = _read_checked(file, expected)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{file}: cannot be read as weights ({error})") from error
