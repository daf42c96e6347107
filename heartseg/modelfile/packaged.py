"""Reading the model that is shipped with heartseg: its weights, its description and its card.

The folder ``heartseg/packaged`` holds ``whole_heart.npz``, the weights in half precision,
``whole_heart.json``, the layers of the network, the same two files of the network of the second
stage where the model has one (``second_stage.npz``, ``second_stage.json``), and ``model.json``,
which describes networks and training and holds the checksums of all. ``tools/package_weights.py``
writes them. Keras gets the weights to train on, and ONNX Runtime a graph that is joined from layers
and weights in memory.
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
    SecondStage,
)
from heartseg.modelfile.keras_settings import own_settings
from heartseg.modelfile.layers import Architecture
from heartseg.modelfile.onnx_format import OnnxModel
from heartseg.modelfile.onnx_graph import build_graph

if TYPE_CHECKING:
    import keras

PACKAGED_DIR = Path(__file__).parents[1] / "packaged"
WEIGHTS, LAYERS = "whole_heart.npz", "whole_heart.json"
SECOND_WEIGHTS, SECOND_LAYERS = "second_stage.npz", "second_stage.json"
DESCRIPTION = "model.json"
STAGE_KEYS = ("grid", "patch", "filters")
"""What ``model.json`` and model files say of the network of a second stage."""
TEMPLATE = "model-card.md.jinja"
LICENCE = (
    "CC BY 4.0: derived from HVSMR-2.0 (https://doi.org/10.1038/s41597-024-03469-9) and "
    "TensorFlow-FlexUNet-Image-Segmentation-Whole-Heart-HVSMR-2.0. For research and teaching only; "
    "not a medical device"
)
"""Of the weights, as the model card states it."""


CALIBRATION = Calibration(doubtful=0.87, sure=0.85, hopeless=0.68, usual=0.93, confident=0.83)
"""``doubtful`` and ``confident`` were measured on structures of five patients, as they are and made
worse, with weights that saw none of them (the table on stability in docs/maintainers/results.md):
``confident``, after both stages, finds 87 % of those with a Dice coefficient below 0.6, and 15 % of
the others; ``doubtful``, after the first alone, 68 % and 12 %.

The rest was measured with the packaged weights, as means over the structures: 0.95 or more on pat4
and pat58 (which the weights have seen), also with margins of zeros; 0.94 and 0.95 on slices of two
patients, set into volumes, whose images they have not seen; 0.80 and 0.81 on the first two upside
down, 0.73 and 0.74 with inverted contrast, and 0.60 or less on noise and shuffled voxels."""


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
        second = self.facts.get("second_stage")
        return ModelDescription(
            WHOLE_HEART_VIEW,
            HVSMR,
            WHOLE_HEART,
            self.grid,
            f"{self.name}, sha256 {self._checksum()[:12]}",
            self.record,
            CALIBRATION,
            None if second is None else SecondStage.from_dict(second),
        )

    def _checksum(self) -> str:
        """Return the checksum of the weights: of both networks, where there are two."""
        first, second = str(self.facts.get("sha256")), self.facts.get("second_stage")
        if second is None:
            return first
        return hashlib.sha256(f"{first} {second.get('sha256')}".encode()).hexdigest()

    @property
    def metadata(self) -> dict[str, Any]:
        """What a file with this model says of it; see ``ModelDescription.from_metadata``."""
        second = self.facts.get("second_stage")
        return {
            "heartseg": str(self.facts.get("code_version")),
            "kind": WHOLE_HEART,
            "labels": HVSMR.description,
            "network": {"grid": list(self.grid), "filters": list(self.filters)},
            "calibration": asdict(CALIBRATION),
            "learned_from": self.facts["learned_from"],
            "identity": self.description.identity,
            **({} if second is None else {"second_stage": {k: second[k] for k in STAGE_KEYS}}),
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
            if facts.get("second_stage") is not None:
                SecondStage.from_dict(facts["second_stage"])
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


def load_packaged(folder: Path = PACKAGED_DIR, *, second_stage: bool = False) -> "keras.Model":
    """Build a packaged network with its weights, after checking their checksum.

    Args:
        folder: Folder of the packaged model.
        second_stage: Whether the network of the second stage is built in place of the first.

    Raises:
        ModelError: If there is no packaged model, it has no second stage, or a file is damaged or
            was changed.
    """
    described, stored = describe_packaged(folder), _find_stored(folder, second_stage=second_stage)
    weights = _read_weights(folder / stored.weights, stored.weights_sha256)

    # Only now, when the files are known to be whole: TensorFlow takes seconds to load.
    try:
        with own_settings():
            model = _build_second(described) if second_stage else _build_first(described)
        for variable in model.variables:
            variable.assign(weights.pop(variable.path).astype(np.float32))
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{folder / stored.weights}: does not fit the network that {DESCRIPTION} describes "
            f"({error}); install heartseg again"
        ) from error
    if weights:
        raise ModelError(
            f"{folder / stored.weights}: holds arrays that the network does not have: "
            f"{', '.join(sorted(weights)[:3])}; install heartseg again"
        )
    return model


def _build_first(described: PackagedModel) -> "keras.Model":
    from heartseg.networks.volume_unet import build_volume_unet

    return build_volume_unet(
        grid=described.grid, filters=described.filters, num_classes=described.num_classes
    )


def _build_second(described: PackagedModel) -> "keras.Model":
    from heartseg.networks.correction_unet import build_correction_unet

    facts = described.facts["second_stage"]
    return build_correction_unet(
        patch=SecondStage.from_dict(facts).patch,
        filters=[int(width) for width in facts["filters"]],
        num_classes=described.num_classes,
    )


def load_packaged_graph(folder: Path = PACKAGED_DIR, *, second_stage: bool = False) -> OnnxModel:
    """Return a packaged network as an ONNX graph, after checking the checksums, without Keras.

    Args:
        folder: Folder of the packaged model.
        second_stage: Whether it is the network of the second stage.

    Raises:
        ModelError: If there is no packaged model, it has no second stage, or a file is damaged or
            was changed.
    """
    stored = _find_stored(folder, second_stage=second_stage)
    layers = _read_checked(folder / stored.layers, stored.layers_sha256)
    weights = _read_weights(folder / stored.weights, stored.weights_sha256)
    try:
        architecture = Architecture.from_dict(json.loads(layers))
        return build_graph(architecture, weights)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / stored.layers}: does not fit {stored.weights} ({error}); install heartseg "
            "again"
        ) from error


@dataclass(frozen=True)
class _Stored:
    """The files of a packaged network, and their checksums."""

    weights: str
    weights_sha256: str
    layers: str
    layers_sha256: str


def _find_stored(folder: Path, *, second_stage: bool) -> _Stored:
    facts, names = describe_packaged(folder).facts, (WEIGHTS, LAYERS)
    if second_stage:
        facts, names = facts.get("second_stage") or {}, (SECOND_WEIGHTS, SECOND_LAYERS)
        if not facts:
            raise ModelError(f"{folder / DESCRIPTION}: this packaged model has no second stage")
    checksums = str(facts.get("sha256")), str(facts.get("layers_sha256"))
    return _Stored(names[0], checksums[0], names[1], checksums[1])


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
