"""Checks of a model file of unknown origin, before Keras opens it: names, sizes, classes, weights.

A ``.keras`` file is a zip archive of a description (JSON) and weights (HDF5). Keras's safe mode
refuses code in the description. The checks here go further: only layers that do arithmetic, no more
memory than the file itself occupies, no reference to other files.
"""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heartseg.errors import ModelError

CONFIG_MEMBER = "config.json"
METADATA_MEMBER = "heartseg.json"
WEIGHTS_MEMBER = "model.weights.h5"
MEMBERS = frozenset({CONFIG_MEMBER, METADATA_MEMBER, WEIGHTS_MEMBER, "metadata.json"})
LARGEST_JSON_BYTES = 1 << 24
LARGEST_SIDE = 1 << 15

LAYERS = frozenset(
    {
        "Activation",
        "Add",
        "Average",
        "AveragePooling2D",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Dropout",
        "GroupNormalization",
        "InputLayer",
        "LeakyReLU",
        "MaxPooling2D",
        "Multiply",
        "Permute",
        "ReLU",
        "Rescaling",
        "Reshape",
        "Softmax",
        "SpatialDropout2D",
        "UpSampling2D",
        "UpSampling3D",
    }
)
"""Layers that compute with features and weights only: no code, no files, no vocabulary."""
PLAIN_MODULES = frozenset(
    {
        "keras.constraints",
        "keras.initializers",
        "keras.losses",
        "keras.metrics",
        "keras.optimizers",
        "keras.optimizers.schedules",
        "keras.regularizers",
    }
)
"""Modules of Keras whose public classes hold numbers and options only."""
MODELS = frozenset({"keras", "keras.models", "keras.src.models.functional"})
OWN_MODULES = ("heartseg.training.", "heartseg.model.")
"""Where heartseg's losses, metrics and optimizers are, and where they were in version 0.1."""
OWN_PREFIX = "heartseg>"
"""How they are registered with Keras, which finds them by this name and imports no module."""

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What zipfile and h5py raise on archives that are damaged or encrypted, or that use an unknown
compression method."""


@contextmanager
def open_archive(file: Path) -> Iterator[zipfile.ZipFile]:
    """Open a model file.

    Raises:
        ModelError: If it is missing or not a zip archive.
    """
    if not file.is_file():
        raise ModelError(f"{file}: expected a model file (.keras), found no such file")
    try:
        archive = zipfile.ZipFile(file)
    except UNREADABLE as error:
        raise ModelError(
            f"{file}: expected a .keras archive, found another kind of file or a file that was cut "
            f"short ({error}). Copy it again, or train again."
        ) from error
    with archive:
        yield archive


def read_json(archive: zipfile.ZipFile, member: str, file: Path) -> dict[str, Any]:
    """Read a member that holds a JSON mapping, no larger than ``LARGEST_JSON_BYTES``.

    Raises:
        ModelError: If it is missing, damaged, too large, or not a JSON mapping.
    """
    if member not in archive.namelist():
        raise ModelError(
            f"{file}: expected a member {member}, found none: heartseg did not write this file"
        )
    if archive.getinfo(member).file_size > LARGEST_JSON_BYTES:
        raise ModelError(f"{file}: {member} is larger than {LARGEST_JSON_BYTES} bytes")
    try:
        with archive.open(member) as stream:
            # The size in the archive's directory may be false; this limit holds in any case.
            content = json.loads(stream.read(LARGEST_JSON_BYTES))
    except RecursionError as error:
        raise ModelError(f"{file}: {member} is nested too deeply") from error
    except UNREADABLE as error:
        raise ModelError(f"{file}: {member} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: {member}: expected a mapping, found {type(content).__name__}")
    return content


def inspect_archive(file: Path) -> None:
    """Check that a model file is complete and holds only a plain network.

    Raises:
        ModelError: If it is damaged or compressed, has other members, names an unknown layer or
            class, or describes more weights than it holds.
    """
    with open_archive(file) as archive:
        _check_members(archive, file)
        config = read_json(archive, CONFIG_MEMBER, file)
        _check_classes(config, file)
        claimed = _count_weights(config, file)
        stored = _count_stored(archive, file)
    if claimed > stored:
        raise ModelError(
            f"{file}: describes a network of {claimed:,} weights but holds {stored:,} numbers"
        )


def _check_members(archive: zipfile.ZipFile, file: Path) -> None:
    names = [info.filename for info in archive.infolist()]
    unexpected = sorted(set(names) - MEMBERS)
    if unexpected or len(names) != len(set(names)):
        what = ", ".join(unexpected[:5]) or "one member twice"
        raise ModelError(f"{file}: expected the members {sorted(MEMBERS)}, found {what!r}")
    if WEIGHTS_MEMBER not in names:
        raise ModelError(f"{file}: expected a member {WEIGHTS_MEMBER}, found none")
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ModelError(
                f"{file}: {info.filename} is compressed; expected a file as Keras writes it, not "
                "compressed, so that reading it takes no more memory than the file has bytes"
            )


def _mappings(content: object) -> Iterator[Mapping[str, Any]]:
    pending = [content]
    while pending:
        entry = pending.pop()
        if isinstance(entry, dict):
            yield entry
            pending.extend(entry.values())
        elif isinstance(entry, list):
            pending.extend(entry)


def _check_classes(config: Mapping[str, Any], file: Path) -> None:
    for entry in _mappings(config):
        if "class_name" in entry and not _is_plain(entry, is_root=entry is config):
            module, name = entry.get("module"), entry["class_name"]
            raise ModelError(
                f"{file}: names the class {name!r} of the module {module!r}, which heartseg does "
                "not load: a model file may hold layers that compute, but no code and no other file"
            )
        if entry.get("data_format", "channels_last") not in ("channels_last", None):
            raise ModelError(f"{file}: expected data_format channels_last")


def _is_plain(entry: Mapping[str, Any], *, is_root: bool) -> bool:
    module, name = entry.get("module"), entry["class_name"]
    if not isinstance(name, str) or not isinstance(module, str | None):
        return False
    if is_root:
        return name == "Functional" and module in MODELS
    if module is None:
        return name == "__keras_tensor__"
    if module == "keras.layers":
        return name in LAYERS
    if module == "keras":
        return name == "DTypePolicy"
    if module.startswith(OWN_MODULES):
        return str(entry.get("registered_name", "")).startswith(OWN_PREFIX)
    return module in PLAIN_MODULES


def _count_weights(config: Mapping[str, Any], file: Path) -> int:
    """Count the weights that the description names, before anything allocates them."""
    channels: dict[str, int] = {}
    total = 0
    try:
        for layer in config["config"]["layers"]:
            sources = [channels[name] for name in _sources(layer["inbound_nodes"])]
            channels[layer["name"]], weights = _measure_layer(layer, sources)
            total += weights
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{file}: {CONFIG_MEMBER} is not the description of a network ({error!r})"
        ) from error
    return total


def _measure_layer(layer: Mapping[str, Any], sources: Sequence[int]) -> tuple[int, int]:
    """Return a layer's output channels and its trainable weights, from its input channels."""
    kind, options = layer["class_name"], layer["config"]
    if kind == "InputLayer":
        sides = [_size(side) for side in options["batch_shape"] if side is not None]
        return sides[-1], 0
    if kind in ("Conv2D", "Conv2DTranspose", "Conv3D"):
        filters = _size(options["filters"])
        kernel = math.prod(_size(side) for side in options["kernel_size"])
        inputs = max(sources) // _size(options.get("groups", 1))
        return filters, (kernel * inputs + bool(options["use_bias"])) * filters
    if kind == "Reshape":
        return _size(options["target_shape"][-1]), 0
    if kind == "Permute" and options["dims"][-1] != len(options["dims"]):
        raise ValueError("Permute: expected the channels to stay last")
    channels = sum(sources) if kind == "Concatenate" else max(sources)
    if not kind.endswith("Normalization"):
        return channels, 0
    if options["axis"] not in (-1, 3, 4):
        raise ValueError(f"axis of {kind}: expected -1, got {options['axis']}")
    return channels, (bool(options["scale"]) + bool(options["center"])) * channels


def _size(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"expected a size of 1 to {LARGEST_SIDE}, got {value!r}")
    return value


def _sources(nodes: object) -> Iterator[str]:
    """Yield the names of the layers whose outputs enter a layer."""
    for entry in _mappings(nodes):
        if entry.get("class_name") == "__keras_tensor__":
            yield entry["config"]["keras_history"][0]


def _count_stored(archive: zipfile.ZipFile, file: Path) -> int:
    """Count the numbers that the weights member holds."""
    # h5py is imported here: only a process that loads a network needs it.
    import h5py

    try:
        # The member is read in one piece: HDF5 reads here and there, which is slow within an
        # archive, and zipfile compares the checksum only of a member that is read to its end.
        content = io.BytesIO(archive.read(WEIGHTS_MEMBER))
        with h5py.File(content, "r") as weights:
            return sum(int(entry.size) for entry in _data_sets(weights["/"], file))
    except (*UNREADABLE, KeyError, TypeError) as error:
        raise ModelError(f"{file}: {WEIGHTS_MEMBER} is damaged ({error})") from error


def _data_sets(root: Any, file: Path) -> Iterator[Any]:  # noqa: ANN401 - h5py has no types
    """Yield every data set below an HDF5 group.

    Raises:
        ModelError: If one is not stored as plain numbers, or has a second name.
    """
    import h5py

    pending = [root]
    seen = set()
    while pending:
        entry = pending.pop()
        where = f"{file}: {WEIGHTS_MEMBER}: {entry.name}"
        address = h5py.h5o.get_info(entry.id).addr
        if address in seen:
            raise ModelError(f"{where} occurs twice")
        seen.add(address)
        if isinstance(entry, h5py.Group):
            for name in entry:
                # A soft link leads to another place, an external one to another file.
                if not isinstance(entry.get(name, getlink=True), h5py.HardLink):
                    raise ModelError(f"{where}/{name} links to another place or file")
                pending.append(entry[name])
        elif isinstance(entry, h5py.Dataset) and _is_contiguous(entry):
            yield entry
        else:
            raise ModelError(f"{where} is not stored as plain numbers")


def _is_contiguous(dataset: Any) -> bool:  # noqa: ANN401 - h5py has no types
    """Return whether an HDF5 data set is stored in this file, number by number."""
    is_own = dataset.external is None and not dataset.is_virtual and dataset.chunks is None
    return is_own and dataset.id.get_storage_size() == dataset.nbytes
