"""The file format of ONNX models, written and read without a library: graph, weights, metadata.

Only what the networks of heartseg need: one graph of operators of the standard set, float32 images
in and out, weights within the file. Whatever else the format knows (other files, functions, graphs
within operators, weights that are not raw bytes) is refused, since no such file is heartseg's.

References:
    https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    https://protobuf.dev/programming-guides/encoding
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

OPSET, IR_VERSION = 18, 8
"""Versions of operators and format, of 2022: every current runtime reads them."""
Attribute: TypeAlias = int | float | str | tuple[int, ...]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT32 = 1
_TYPES: Mapping[int, Any] = {_FLOAT32: np.dtype("<f4"), 7: np.dtype("<i8")}
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        operator: Name in the standard set of ONNX.
        inputs: Names of arrays; empty where an optional one is left out.
        outputs: Names of arrays.
        attributes: Options by name.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """An input or output: float32, with a number or a name for each side."""

    name: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class OnnxModel:
    """A network as an ONNX file holds it.

    Attributes:
        nodes: Operations, each after those whose results it uses.
        weights: Constants by name: float32, and int64 for shapes.
        source: The images.
        result: Probabilities or logits.
        metadata: Texts by name.
    """

    nodes: Sequence[Node]
    weights: Mapping[str, NDArray[Any]]
    source: Port
    result: Port
    metadata: Mapping[str, str] = field(default_factory=dict)


def encode(model: OnnxModel, *, producer: str = "heartseg") -> bytes:
    """Return the content of an ONNX file; equal models give equal bytes."""
    graph = [_field(1, _encode_node(node)) for node in model.nodes]
    graph.append(_field(2, b"network"))
    graph += [_field(5, _encode_tensor(name, array)) for name, array in model.weights.items()]
    graph += [_field(11, _encode_port(model.source)), _field(12, _encode_port(model.result))]
    parts = [_number(1, IR_VERSION), _field(2, producer.encode()), _field(7, b"".join(graph))]
    parts.append(_field(8, _field(1, b"") + _number(2, OPSET)))
    for key, text in model.metadata.items():
        parts.append(_field(14, _field(1, key.encode()) + _field(2, text.encode())))
    return b"".join(parts)


def decode(content: bytes) -> OnnxModel:
    """Read the content of an ONNX file of unknown origin.

    Raises:
        ValueError: If it is damaged, or holds something that networks of heartseg do not.
    """
    fields = _read(memoryview(content), "the model", {1, 2, 3, 4, 5, 6, 7, 8, 14})
    graphs = [value for number, value in fields if number == 7]
    if len(graphs) != 1:
        raise ValueError(f"expected one graph, found {len(graphs)}")
    for operators in (value for number, value in fields if number == 8):
        _check_operators(operators)
    metadata = dict(_decode_text(value) for number, value in fields if number == 14)
    parts = _read(graphs[0], "the graph", {1, 2, 5, 10, 11, 12, 13, 16})
    nodes = [_decode_node(value) for number, value in parts if number == 1]
    weights = dict(_decode_tensor(value) for number, value in parts if number == 5)
    sources = [_decode_port(value) for number, value in parts if number == 11]
    sources = [port for port in sources if port.name not in weights]
    results = [_decode_port(value) for number, value in parts if number == 12]
    if len(sources) != 1 or len(results) != 1:
        raise ValueError(
            f"expected one input and one output, found {len(sources)} and {len(results)}"
        )
    return OnnxModel(nodes, weights, sources[0], results[0], metadata)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _encode_node(node: Node) -> bytes:
    parts = [_field(1, name.encode()) for name in node.inputs]
    parts += [_field(2, name.encode()) for name in node.outputs]
    parts += [_field(3, node.outputs[0].encode()), _field(4, node.operator.encode())]
    parts += [_field(5, _encode_attribute(*item)) for item in node.attributes.items()]
    return b"".join(parts)


def _encode_attribute(name: str, value: Attribute) -> bytes:
    head = _field(1, name.encode())
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, _INT)
    if isinstance(value, float):
        content = _varint(2 << 3 | _FIXED32) + struct.pack("<f", value)
        return head + content + _number(20, _FLOAT)
    if isinstance(value, str):
        return head + _field(4, value.encode()) + _number(20, _STRING)
    return head + b"".join(_number(8, item) for item in value) + _number(20, _INTS)


def _encode_tensor(name: str, array: NDArray[Any]) -> bytes:
    kinds = {known.kind: number for number, known in _TYPES.items()}
    number = kinds[array.dtype.kind]
    raw = np.ascontiguousarray(array, _TYPES[number]).tobytes()
    dims = b"".join(_number(1, side) for side in array.shape)
    return dims + _number(2, number) + _field(8, name.encode()) + _field(9, raw)


def _encode_port(port: Port) -> bytes:
    dims = b"".join(
        _field(1, _field(2, side.encode()) if isinstance(side, str) else _number(1, side))
        for side in port.shape
    )
    tensor = _number(1, _FLOAT32) + _field(2, dims)
    return _field(1, port.name.encode()) + _field(2, _field(1, tensor))


def _fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a message."""
    place = 0
    while place < len(content):
        key, place = _read_varint(content, place)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = _read_varint(content, place)
            yield number, value
            continue
        if kind == _BYTES:
            size, place = _read_varint(content, place)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("it is damaged, or no ONNX file")
        if size > len(content) - place:
            raise ValueError("it is cut short, or no ONNX file")
        yield number, content[place : place + size]
        place += size


def _read_varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError("it is cut short, or no ONNX file")
        digit = content[place]
        place += 1
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            return value, place
    raise ValueError("it is damaged, or no ONNX file")


def _read(content: object, what: str, known: set[int]) -> list[tuple[int, Any]]:
    if not isinstance(content, memoryview):
        raise ValueError(f"{what} is damaged")  # noqa: TRY004 - one error for all damage
    fields = list(_fields(content))
    unknown = {number for number, _ in fields} - known
    if unknown:
        raise ValueError(
            f"{what} has parts that heartseg does not use (field {min(unknown)} of the format)"
        )
    return fields


def _text(value: object) -> str:
    if not isinstance(value, memoryview):
        raise ValueError("it is damaged: a text was expected")  # noqa: TRY004 - see _read
    return bytes(value).decode("utf-8")


def _signed(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("it is damaged: a number was expected")  # noqa: TRY004 - see _read
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _signed_several(value: object) -> Iterator[int]:
    """Yield numbers that are stored one by one, or packed into one field."""
    if not isinstance(value, memoryview):
        yield _signed(value)
        return
    place = 0
    while place < len(value):
        number, place = _read_varint(value, place)
        yield _signed(number)


def _check_operators(content: object) -> None:
    for number, value in _read(content, "the version of the operators", {1, 2}):
        if number == 1 and _text(value) not in ("", "ai.onnx"):
            raise ValueError(f"it uses the operators of {_text(value)!r}, not only the standard")


def _decode_text(content: object) -> tuple[str, str]:
    texts = {number: _text(value) for number, value in _read(content, "the metadata", {1, 2})}
    return texts.get(1, ""), texts.get(2, "")


def _decode_node(content: object) -> Node:
    fields = _read(content, "an operator", {1, 2, 3, 4, 5, 6, 7, 8})
    texts = {number: _text(value) for number, value in fields if number in (4, 7, 8)}
    if texts.get(7, "") not in ("", "ai.onnx") or texts.get(8):
        raise ValueError(f"the operator {texts.get(4)!r} is of {texts.get(7)!r}, not the standard")
    inputs, outputs = (tuple(_text(v) for n, v in fields if n == number) for number in (1, 2))
    attributes = dict(_decode_attribute(value) for number, value in fields if number == 5)
    return Node(texts.get(4, ""), inputs, outputs, attributes)


def _decode_attribute(content: object) -> tuple[str, Attribute]:
    name = ""
    value: Attribute | None = None
    several: list[int] = []
    for number, found in _read(content, "an option of an operator", {1, 2, 3, 4, 7, 8, 13, 20}):
        if number == 1:
            name = _text(found)
        elif number == 2 and isinstance(found, memoryview) and len(found) == 4:
            value = struct.unpack("<f", found)[0]
        elif number == 3:
            value = _signed(found)
        elif number == 4:
            value = _text(found)
        elif number == 8:
            several += _signed_several(found)
    return name, tuple(several) if value is None else value


def _decode_tensor(content: object) -> tuple[str, NDArray[Any]]:
    dims: list[int] = []
    kind, name, raw = 0, "", memoryview(b"")
    for number, value in _read(content, "an array of weights", {1, 2, 8, 9, 12}):
        if number == 1:
            dims += _signed_several(value)
        elif number == 2:
            kind = _signed(value)
        elif number == 8:
            name = _text(value)
        elif number == 9 and isinstance(value, memoryview):
            raw = value
    if kind not in _TYPES:
        raise ValueError(f"the array {name!r} is of type {kind}; expected float32 or int64")
    if any(side < 0 for side in dims) or math.prod(dims) * _TYPES[kind].itemsize != len(raw):
        raise ValueError(f"the array {name!r} of shape {tuple(dims)} has {len(raw)} bytes")
    return name, np.frombuffer(raw, _TYPES[kind]).reshape(dims)


def _decode_port(content: object) -> Port:
    fields = dict(_read(content, "an input or output", {1, 2, 3}))
    (kind, tensor), *others = _read(fields.get(2), "the type of an input or output", {1})
    described = dict(_read(tensor, "the type of an input or output", {1, 2}))
    if kind != 1 or others or described.get(1) != _FLOAT32:
        raise ValueError("an input or output is not float32")
    shape: list[int | str] = []
    for _, side in _read(described.get(2), "the shape of an input or output", {1}):
        values = _read(side, "a side", {1, 2, 3})
        shape.append(_side(values[0]) if values else "")
    return Port(_text(fields.get(1)), tuple(shape))


def _side(value: tuple[int, Any]) -> int | str:
    return _signed(value[1]) if value[0] == 1 else _text(value[1])
