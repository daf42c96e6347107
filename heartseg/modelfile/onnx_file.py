"""Networks in ONNX files: written with their description, checked before a runtime sees them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heartseg.errors import ModelError
from heartseg.files import replacing
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.modelfile.onnx_format import Node, OnnxModel, decode, encode

SUFFIX = ".onnx"
LARGEST_BYTES = 2_000_000_000
"""The format itself ends at 2 GB."""
LARGEST_METADATA = 1 << 24
MOST_NODES = 10_000
LARGEST_SIDE = 1 << 15
LARGEST_FACTOR = 8.0
"""How much larger one operation may make a side."""
OPERATORS = frozenset(
    {
        *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv"),
        *("ConvTranspose", "Div", "Elu", "Erf", "Expand", "Flatten", "Identity"),
        *("InstanceNormalization", "LeakyRelu", "MaxPool", "Mul", "Pad", "Pow", "ReduceMean"),
        *("Relu", "Reshape", "Resize", "Selu", "Shape", "Sigmoid", "Slice", "Softmax", "Softplus"),
        *("Softsign", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze"),
    }
)
"""Operators that compute with features and weights: no loops, no code, no other files."""


def write_onnx(file: Path, model: OnnxModel, metadata: Mapping[str, Any]) -> None:
    """Write a network with what its users must know of it, as a complete file or not at all.

    Args:
        file: The file to write.
        model: The network.
        metadata: Values that JSON can hold; each becomes a text of the file's metadata.

    Raises:
        DataError: If the file cannot be written.
    """
    texts = {key: json.dumps(value, allow_nan=False) for key, value in metadata.items()}
    described = OnnxModel(model.nodes, model.weights, model.source, model.result, texts)
    with replacing(file) as temporary:
        temporary.write_bytes(encode(described))


def read_onnx(file: Path) -> OnnxModel:
    """Read a network of unknown origin.

    Raises:
        ModelError: If it is missing, damaged, too large, or holds anything but a plain network
            that heartseg exported.
    """
    try:
        size = file.stat().st_size
        if size > LARGEST_BYTES:
            raise ModelError(f"{file}: has {size:,} bytes; expected at most {LARGEST_BYTES:,}")
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        model = decode(content)
        _check_graph(model)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{file}: expected an ONNX model of `heartseg export`, but {error}. Export the model "
            "again, or copy the file again"
        ) from error
    return model


def read_onnx_metadata(model: OnnxModel, *, source: str) -> dict[str, Any]:
    """Return the description that ``write_onnx`` put into a file.

    Raises:
        ModelError: If there is none, or it is broken.
    """
    if sum(map(len, model.metadata.values())) > LARGEST_METADATA:
        raise ModelError(f"{source}: its metadata is larger than {LARGEST_METADATA:,} characters")
    if "labels" not in model.metadata:
        raise ModelError(
            f"{source}: says nothing of labels: expected a model that `heartseg export` wrote"
        )
    try:
        return {key: json.loads(text) for key, text in model.metadata.items()}
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{source}: its metadata is damaged ({error})") from error


def _check_graph(model: OnnxModel) -> None:
    if len(model.nodes) > MOST_NODES:
        raise ValueError(f"it has {len(model.nodes):,} operations, more than {MOST_NODES:,}")
    if len(model.source.shape) not in (4, 5) or len(model.result.shape) != len(model.source.shape):
        raise ValueError("its images are neither slices nor volumes")
    for port in (model.source, model.result):
        for side in port.shape:
            if isinstance(side, int) and not 1 <= side <= LARGEST_SIDE:
                raise ValueError(f"the side {side} of {port.name!r} is not 1 to {LARGEST_SIDE}")
    for node in model.nodes:
        if node.operator not in OPERATORS:
            raise ValueError(f"it uses the operator {node.operator!r}, which heartseg does not run")
        _check_growth(node, model)


def _check_growth(node: Node, model: OnnxModel) -> None:
    """Refuse an operation that makes far larger arrays than it takes."""
    constants = [model.weights[name] for name in node.inputs if name in model.weights]
    if node.operator == "Resize" and not any(
        values.size and values.dtype.kind == "f" and values.max() <= LARGEST_FACTOR
        for values in constants
    ):
        raise ValueError(f"{node.outputs} is enlarged more than {LARGEST_FACTOR:g} times")
    if node.operator in ("Pad", "Expand"):
        numbers = [values.ravel() for values in constants if values.dtype.kind == "i"]
        sizes = [abs(int(value)) for values in numbers for value in values]
        if not sizes or math.prod(max(1, size) for size in sizes) > 1 << 30:
            raise ValueError(f"{node.outputs} is enlarged without a limit")
    strides = node.attributes.get("strides", ())
    if isinstance(strides, tuple) and any(step > LARGEST_FACTOR for step in strides):
        raise ValueError(f"{node.outputs} has strides {strides}")


def check_ports(model: OnnxModel, described: ModelDescription, *, source: str) -> None:
    """Check that images and results of a network have the shapes that its description says.

    Raises:
        ModelError: If they have others.
    """
    classes, recipe = described.table.num_classes, described.recipe
    if described.kind == WHOLE_HEART:
        expected: tuple[int, ...] = (*described.grid, 1)
    else:
        expected = (recipe.image_height, recipe.image_width, recipe.channels)
    wanted = (expected, (*expected[:-1], classes))
    found = (model.source.shape[1:], model.result.shape[1:])
    fits = all(
        len(sides) == len(known)
        and all(
            isinstance(side, str) or side == other for side, other in zip(sides, known, strict=True)
        )
        for sides, known in zip(found, wanted, strict=True)
    )
    if not fits:
        raise ModelError(
            f"{source}: expected images and results of the shapes {wanted[0]} and {wanted[1]}, as "
            f"its metadata says, found {found[0]} and {found[1]}"
        )
