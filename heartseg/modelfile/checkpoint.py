"""Model files: Keras archives that also describe how to prepare their input."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartseg.errors import ModelError
from heartseg.files import replacing
from heartseg.modelfile.archive import (
    LARGEST_JSON_BYTES,
    METADATA_MEMBER,
    inspect_archive,
    open_archive,
    read_json,
)
from heartseg.modelfile.keras_settings import own_settings

if TYPE_CHECKING:
    import keras

SUFFIX = ".keras"


def save_model(
    model: "keras.Model",
    file: Path,
    metadata: Mapping[str, object],
    *,
    with_optimizer: bool = False,
) -> None:
    """Write a model with the metadata that its users need, as a complete file or not at all.

    The file is a ``.keras`` archive with one more member, ``heartseg.json``. It holds the slice
    recipe and the labels: in the same file as the weights, they always belong to them.

    Args:
        model: A functional model, as ``build_unet`` returns it.
        file: The file to write, named ``*.keras``.
        metadata: The values that ``read_metadata`` will return; must be expressible in JSON.
        with_optimizer: Whether loss, metrics and the state of the optimizer are saved too, to
            resume training. The file is then three times as large.

    Raises:
        DataError: If the file cannot be written.
        ValueError: If the file has another suffix, or JSON cannot hold the metadata.
    """
    if file.suffix != SUFFIX:
        raise ValueError(f"{file}: expected a name that ends in {SUFFIX}")
    content = _encode(metadata)

    # Imported here, so that read_metadata works without TensorFlow.
    import keras

    # The same layers without compile(): no optimizer state, no copy of the weights.
    kept = model if with_optimizer else keras.Model(model.input, model.output, name=model.name)
    with replacing(file) as temporary:
        keras.saving.save_model(kept, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA_MEMBER, content)


def _encode(metadata: Mapping[str, object]) -> str:
    try:
        content = json.dumps(dict(metadata), indent=1, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"metadata: expected values that JSON can hold ({error})") from error
    if len(content) > LARGEST_JSON_BYTES:
        raise ValueError(f"metadata: expected at most {LARGEST_JSON_BYTES} bytes")
    return content


def read_metadata(file: Path) -> dict[str, Any]:
    """Read the metadata of a model file, without loading TensorFlow or the weights.

    Raises:
        ModelError: If the file is missing or damaged, or ``save_model`` did not write it.
    """
    with open_archive(file) as archive:
        return read_json(archive, METADATA_MEMBER, file)


def load_model(file: Path, *, compiled: bool = False) -> "keras.Model":
    """Load a model. The file may be of unknown origin: it is checked before Keras opens it.

    Args:
        file: A file of ``save_model``, or any ``.keras`` file of a plain convolutional network.
        compiled: Whether loss, metrics and optimizer are loaded too, if they were saved. The
            modules that register their classes must have been imported.

    Raises:
        ModelError: If the file is missing, damaged, or holds anything but a network of the layers
            in ``heartseg.modelfile.archive.LAYERS``.
    """
    if file.suffix != SUFFIX:
        raise ModelError(f"{file}: expected a model file whose name ends in {SUFFIX}")
    inspect_archive(file)

    import keras

    try:
        with own_settings():
            return keras.saving.load_model(file, compile=compiled, safe_mode=True)
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelError(f"{file}: cannot be loaded as a model ({reason[:300]})") from error
