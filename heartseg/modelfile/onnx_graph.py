"""From a network's layers and weights to an ONNX graph that runs fast on processors.

Keras computes with channels last, and ONNX with channels first. Features of slices are
``(B, C, H, W)``. A volume is a batch of one, so its features are planes, ``(P, C, I, R)``, and a
convolution in 3D is the sum of convolutions of planes: ONNX Runtime has fast kernels for 2D and
slow ones for 3D (measured for the packaged network: 0.09 s of one core instead of 0.12 s), and
some runtimes have none for 3D.

Each weight keeps the name that Keras gives it. A kernel of three planes is three arrays, whose
names end in ``/0``, ``/1`` and ``/2``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg.modelfile.layers import Architecture, Layer
from heartseg.modelfile.onnx_format import Attribute, Node, OnnxModel, Port

ACTIVATIONS: Mapping[str, str] = {
    "elu": "Elu",
    "relu": "Relu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
"""What ONNX calls the activations of Keras that have no options."""
_CHANNELS_FIRST, _CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class _Features:
    """What a layer returns.

    Attributes:
        name: Its name in the graph.
        shape: Sides and channels without the batch, channels last; None for a free side.
        planar: Whether the graph holds it as ``(B, C, H, W)`` or ``(P, C, I, R)``; otherwise as
            Keras does.
    """

    name: str
    shape: tuple[int | None, ...]
    planar: bool = False


def build_graph(
    architecture: Architecture,
    weights: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
) -> OnnxModel:
    """Convert a network to ONNX.

    Args:
        architecture: A network of slices, ``(B, H, W, C)``, or of volumes, ``(B, P, I, R, C)``.
        weights: Arrays as Keras has them, by the names of ``Layer.weight_names``.
        metadata: Texts that the file shall hold.

    Returns:
        The same network: of slices for any number of images, of volumes for one. Shapes of inputs
        and outputs are those of Keras.

    Raises:
        ValueError: If a layer cannot be converted.
        KeyError: If weights are missing.
    """
    graph = _Graph(weights)
    results: dict[str, _Features] = {}
    for layer in architecture.layers:
        if layer.kind not in _CONVERSIONS:
            raise ValueError(f"{layer.name}: layers of the kind {layer.kind} cannot be converted")
        results[layer.name] = _CONVERSIONS[layer.kind](
            graph, layer, [results[name] for name in layer.sources]
        )
    entrance = architecture.layers[0]
    shape = results[entrance.name].shape
    result = graph.as_keras(results[architecture.output])
    name = f"{architecture.output}_result"
    graph.add("Identity", [result.name], name)
    batch: int | str = 1 if len(shape) == 4 else "images"

    def port(name: str, sides: Sequence[int | None]) -> Port:
        return Port(name, (batch, *(side or f"side_{axis}" for axis, side in enumerate(sides))))

    source = port(entrance.name, shape)
    return OnnxModel(graph.nodes, graph.arrays, source, port(name, result.shape), metadata or {})


class _Graph:
    """A graph that grows layer by layer."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.weights = weights
        self.nodes: list[Node] = []
        self.arrays: dict[str, NDArray[Any]] = {}

    def add(self, operator: str, inputs: Sequence[str], name: str, **options: Attribute) -> str:
        self.nodes.append(Node(operator, tuple(inputs), (name,), options))
        return name

    def array(self, name: str, values: NDArray[Any]) -> str:
        self.arrays[name] = np.asarray(values, np.float32)
        return name

    def weight(self, name: str) -> str:
        return self.array(name, self.weights[name])

    def numbers(self, *values: int) -> str:
        """Return the name of an array of whole numbers, such as a shape; equal ones are shared."""
        name = "_".join(["numbers", *map(str, values)])
        self.arrays[name] = np.array(values, np.int64)
        return name

    def planes(self, features: _Features) -> _Features:
        """Return features as convolutions take them."""
        if features.planar:
            return features
        name = features.name
        if len(features.shape) == 4:
            name = self.add("Squeeze", [name, self.numbers(0)], f"{name}_volume")
        elif len(features.shape) != 3:
            raise ValueError(f"{name}: expected features of slices or volumes")
        name = self.add("Transpose", [name], f"{name}_planes", perm=_CHANNELS_FIRST)
        return _Features(name, features.shape, planar=True)

    def as_keras(self, features: _Features) -> _Features:
        """Return features with the axes that they have in Keras."""
        if not features.planar:
            return features
        name = self.add("Transpose", [features.name], f"{features.name}_last", perm=_CHANNELS_LAST)
        if len(features.shape) == 4:
            name = self.add("Unsqueeze", [name, self.numbers(0)], f"{name}_batch")
        return _Features(name, features.shape)


def _convert_input(_graph: _Graph, layer: Layer, _sources: Sequence[_Features]) -> _Features:
    return _Features(layer.name, tuple(layer.options["batch_shape"][1:]))


def _convert_convolution(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    """Convolve slices: same size with any odd kernel, or windows side by side."""
    (features,) = (graph.planes(source) for source in sources)
    kernel = graph.weights[f"{layer.name}/kernel"].transpose(3, 2, 0, 1)
    options, sides = _window(layer, layer.options["kernel_size"], features.shape[:-1])
    inputs = [features.name, graph.array(f"{layer.name}/kernel", kernel)]
    if layer.options["use_bias"]:
        inputs.append(graph.weight(f"{layer.name}/bias"))
    name = graph.add("Conv", inputs, layer.name, group=layer.options.get("groups", 1), **options)
    return _activate(graph, layer, _Features(name, (*sides, kernel.shape[0]), planar=True))


def _window(
    layer: Layer, kernel: Sequence[int], sides: Sequence[int | None]
) -> tuple[dict[str, Attribute], tuple[int | None, ...]]:
    """Return the options of a convolution or pooling of planes, and the sides of its result."""
    stride, same = tuple(layer.options["strides"]), layer.options["padding"] == "same"
    dilation = tuple(layer.options.get("dilation_rate", (1,) * len(kernel)))
    strided = any(step > 1 for step in stride)
    fits = all(
        side is None or (side % step == 0 and step == width)
        for side, step, width in zip(sides, stride, kernel, strict=True)
    )
    if (strided and not fits) or (not strided and any(width % 2 == 0 for width in kernel)):
        raise ValueError(f"{layer.name}: strides {stride} with kernel {tuple(kernel)}")
    if not strided and not same and any(width > 1 for width in kernel):
        raise ValueError(f"{layer.name}: padding {layer.options['padding']!r}")
    pads = [0 if strided else d * (k // 2) for d, k in zip(dilation, kernel, strict=True)]
    options: dict[str, Attribute] = {
        "kernel_shape": tuple(kernel)[-2:],
        "strides": stride[-2:],
        "pads": (*pads[-2:], *pads[-2:]),
    }
    if "dilation_rate" in layer.options:
        options["dilations"] = dilation[-2:]
    return options, tuple(
        None if side is None else side // step for side, step in zip(sides, stride, strict=True)
    )


def _convert_convolution_3d(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    """Convolve a volume plane by plane."""
    (features,) = (graph.planes(source) for source in sources)
    size = layer.options["kernel_size"]
    options, sides = _window(layer, size, features.shape[:-1])
    kernel = graph.weights[f"{layer.name}/kernel"].transpose(0, 4, 3, 1, 2)
    filters, channels = kernel.shape[1:3]
    if layer.options.get("groups", 1) != 1 or max(layer.options["dilation_rate"]) != 1:
        raise ValueError(f"{layer.name}: groups or dilation in 3D")
    bias = [graph.weight(f"{layer.name}/bias")] if layer.options["use_bias"] else []
    if size[0] in (1, layer.options["strides"][0]):
        # The planes of a window become channels of one plane, without moving a number.
        given = features.shape
        folded = (sides[0], size[0] * channels, given[1], given[2])
        place = graph.numbers(*(_known(layer, side) for side in folded))
        name = graph.add("Reshape", [features.name, place], f"{layer.name}/folded")
        joined = kernel.transpose(1, 0, 2, 3, 4).reshape(filters, -1, *size[1:])
        array = graph.array(f"{layer.name}/kernel", joined)
        name = graph.add("Conv", [name, array, *bias], layer.name, **options)
    else:
        name = _sum_of_planes(graph, layer, features, kernel, bias, options)
    return _activate(graph, layer, _Features(name, (*sides, filters), planar=True))


def _sum_of_planes(
    graph: _Graph,
    layer: Layer,
    features: _Features,
    kernel: NDArray[Any],
    bias: Sequence[str],
    options: Mapping[str, Attribute],
) -> str:
    """Convolve each plane, its neighbours on both sides with kernels of their own, and add."""
    reach, depth = len(kernel) // 2, _known(layer, features.shape[0])
    around = graph.numbers(reach, 0, 0, 0, reach, 0, 0, 0)
    padded = graph.add("Pad", [features.name, around], f"{layer.name}/padded")
    axis, total = graph.numbers(0), ""
    # The plane itself comes first: its sum needs no other array.
    for index in sorted(range(len(kernel)), key=lambda index: index != reach):
        plane = features.name
        if index != reach:
            ends = [graph.numbers(index), graph.numbers(index + depth), axis]
            plane = graph.add("Slice", [padded, *ends], f"{layer.name}/planes/{index}")
        array = graph.array(f"{layer.name}/kernel/{index}", kernel[index])
        inputs = [plane, array, *(bias if index == reach else ())]
        part = graph.add("Conv", inputs, f"{layer.name}/part/{index}", **options)
        is_last = index == len(kernel) - 1
        target = layer.name if is_last else f"{layer.name}/sum/{index}"
        total = graph.add("Add", [total, part], target) if total else part
    return total


def _convert_transposed(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    """Spread each pixel over a window; windows lie side by side."""
    (features,) = (graph.planes(source) for source in sources)
    size, stride = tuple(layer.options["kernel_size"]), tuple(layer.options["strides"])
    if size != stride or max(layer.options["dilation_rate"]) != 1:
        raise ValueError(f"{layer.name}: strides {stride} with kernel {size}")
    kernel = graph.weights[f"{layer.name}/kernel"].transpose(3, 2, 0, 1)
    inputs = [features.name, graph.array(f"{layer.name}/kernel", kernel)]
    if layer.options["use_bias"]:
        inputs.append(graph.weight(f"{layer.name}/bias"))
    name = graph.add("ConvTranspose", inputs, layer.name, kernel_shape=size, strides=stride)
    sides = (
        None if side is None else side * step
        for side, step in zip(features.shape[:-1], stride, strict=True)
    )
    return _activate(graph, layer, _Features(name, (*sides, kernel.shape[1]), planar=True))


def _convert_pooling(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    (features,) = (graph.planes(source) for source in sources)
    options, sides = _window(layer, layer.options["pool_size"], features.shape[:-1])
    operator = "MaxPool" if layer.kind.startswith("Max") else "AveragePool"
    name = graph.add(operator, [features.name], layer.name, **options)
    return _Features(name, (*sides, features.shape[-1]), planar=True)


def _convert_upsampling(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    (features,) = (graph.planes(source) for source in sources)
    factors = layer.options["size"]
    if layer.options.get("interpolation", "nearest") != "nearest":
        raise ValueError(f"{layer.name}: interpolation {layer.options['interpolation']!r}")
    name = features.name
    if len(factors) == 3:
        depth, *sides = (_known(layer, side) for side in features.shape[:-1])
        # Only planes are resized: some runtimes refuse to resize the first axis.
        parts, channels = factors[0], _known(layer, features.shape[-1])
        shape = graph.numbers(depth, 1, channels, *sides)
        name = graph.add("Reshape", [name, shape], f"{layer.name}/single")
        shape = graph.numbers(depth, parts, channels, *sides)
        name = graph.add("Expand", [name, shape], f"{layer.name}/repeated")
        shape = graph.numbers(depth * parts, channels, *sides)
        name = graph.add("Reshape", [name, shape], f"{layer.name}/planes")
    scales = graph.array(f"{layer.name}/scales", np.array([1, 1, *factors[-2:]]))
    name = graph.add(
        "Resize",
        [name, "", scales],
        layer.name,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    larger = (
        None if side is None else side * factor
        for side, factor in zip(features.shape[:-1], factors, strict=True)
    )
    return _Features(name, (*larger, features.shape[-1]), planar=True)


def _convert_group_norm(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    """Normalise over groups of channels; in a volume over all its planes."""
    (features,) = (graph.planes(source) for source in sources)
    channels = _known(layer, features.shape[-1])
    groups = layer.options["groups"] if layer.options["groups"] > 0 else channels
    if layer.options["axis"] not in (-1, len(features.shape)):
        raise ValueError(f"{layer.name}: axis {layer.options['axis']}")
    name, axes = layer.name, (0, 2) if len(features.shape) == 4 else (2,)
    grouped = graph.add("Reshape", [features.name, graph.numbers(0, groups, -1)], f"{name}/groups")
    over = graph.numbers(*axes)
    mean = graph.add("ReduceMean", [grouped, over], f"{name}/mean")
    centred = graph.add("Sub", [grouped, mean], f"{name}/centred")
    squares = graph.add("Mul", [centred, centred], f"{name}/squares")
    variance = graph.add("ReduceMean", [squares, over], f"{name}/variance")
    epsilon = graph.array(f"{name}/epsilon", np.array(layer.options["epsilon"]))
    raised = graph.add("Add", [variance, epsilon], f"{name}/raised")
    width = graph.add("Sqrt", [raised], f"{name}/width")
    scaled = graph.add("Div", [centred, width], f"{name}/scaled")
    whole = graph.add("Shape", [features.name], f"{name}/shape")
    result = graph.add("Reshape", [scaled, whole], f"{name}/joined")
    return replace(features, name=_scale(graph, layer, result))


def _scale(graph: _Graph, layer: Layer, name: str) -> str:
    """Multiply each channel by its gamma and add its beta, as far as the layer has them."""
    for option, operator, kind in (("scale", "Mul", "gamma"), ("center", "Add", "beta")):
        if layer.options[option]:
            values = graph.weights[f"{layer.name}/{kind}"].reshape(-1, 1, 1)
            array = graph.array(f"{layer.name}/{kind}", values)
            name = graph.add(operator, [name, array], f"{layer.name}/{operator.lower()}")
    return name


def _convert_batch_norm(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    (features,) = (graph.planes(source) for source in sources)
    channels = _known(layer, features.shape[-1])
    kinds = {"gamma": np.ones(channels), "beta": np.zeros(channels)}
    inputs = [features.name]
    for kind in ("gamma", "beta", "moving_mean", "moving_variance"):
        name = f"{layer.name}/{kind}"
        values = graph.weights[name] if name in layer.weight_names else kinds[kind]
        inputs.append(graph.array(name, values))
    epsilon = float(layer.options["epsilon"])
    return replace(
        features, name=graph.add("BatchNormalization", inputs, layer.name, epsilon=epsilon)
    )


def _convert_activation(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    return _activate(graph, layer, sources[0])


def _activate(graph: _Graph, layer: Layer, features: _Features) -> _Features:
    """Apply what the option ``activation`` of a layer names."""
    kind = layer.options.get("activation", "linear")
    name = f"{layer.name}/{kind}"
    if kind == "linear":
        return features
    if kind == "softmax":
        axis = 1 if features.planar else -1
        return replace(features, name=graph.add("Softmax", [features.name], name, axis=axis))
    if kind == "leaky_relu":
        return replace(features, name=graph.add("LeakyRelu", [features.name], name, alpha=0.2))
    if kind in ("silu", "swish"):
        gate = graph.add("Sigmoid", [features.name], f"{name}/gate")
        return replace(features, name=graph.add("Mul", [features.name, gate], name))
    if kind == "gelu":
        return replace(features, name=_add_gelu(graph, features.name, name))
    if kind not in ACTIVATIONS:
        raise ValueError(f"{layer.name}: the activation {kind!r} cannot be converted")
    return replace(features, name=graph.add(ACTIVATIONS[kind], [features.name], name))


def _add_gelu(graph: _Graph, source: str, name: str) -> str:
    """Multiply by the cumulative normal distribution: ``x (1 + erf(x / sqrt 2)) / 2``."""
    root, one, half = (
        graph.array(f"{name}/{label}", np.array(value))
        for label, value in (("root", np.sqrt(0.5)), ("one", 1.0), ("half", 0.5))
    )
    bent = graph.add("Erf", [graph.add("Mul", [source, root], f"{name}/narrow")], f"{name}/erf")
    raised = graph.add("Mul", [graph.add("Add", [bent, one], f"{name}/up"), half], f"{name}/gate")
    return graph.add("Mul", [source, raised], name)


def _convert_sum(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    first, *others = (graph.planes(source) for source in sources)
    name = first.name
    for index, other in enumerate(others):
        name = graph.add("Add", [name, other.name], f"{layer.name}/{index}")
    return replace(first, name=name)


def _convert_concatenation(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    planes = [graph.planes(source) for source in sources]
    if layer.options["axis"] not in (-1, len(planes[0].shape)):
        raise ValueError(f"{layer.name}: axis {layer.options['axis']}")
    name = graph.add("Concat", [source.name for source in planes], layer.name, axis=1)
    channels = sum(_known(layer, source.shape[-1]) for source in planes)
    return _Features(name, (*planes[0].shape[:-1], channels), planar=True)


def _convert_reshape(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    (features,) = (graph.as_keras(source) for source in sources)
    shape = tuple(_known(layer, side) for side in layer.options["target_shape"])
    # The batch stays as it is, which 0 means.
    name = graph.add("Reshape", [features.name, graph.numbers(0, *shape)], layer.name)
    return _Features(name, shape)


def _convert_permutation(graph: _Graph, layer: Layer, sources: Sequence[_Features]) -> _Features:
    (features,) = (graph.as_keras(source) for source in sources)
    order = tuple(layer.options["dims"])
    name = graph.add("Transpose", [features.name], layer.name, perm=(0, *order))
    return _Features(name, tuple(features.shape[axis - 1] for axis in order))


def _convert_nothing(_graph: _Graph, _layer: Layer, sources: Sequence[_Features]) -> _Features:
    """Dropout has no effect after training."""
    return sources[0]


def _known(layer: Layer, side: int | None) -> int:
    if side is None or side < 1:
        raise ValueError(f"{layer.name}: expected a fixed size, found {side}")
    return side


_CONVERSIONS: Mapping[str, Callable[[_Graph, Layer, Sequence[_Features]], _Features]] = {
    "Activation": _convert_activation,
    "Add": _convert_sum,
    "AveragePooling2D": _convert_pooling,
    "BatchNormalization": _convert_batch_norm,
    "Concatenate": _convert_concatenation,
    "Conv2D": _convert_convolution,
    "Conv2DTranspose": _convert_transposed,
    "Conv3D": _convert_convolution_3d,
    "Dropout": _convert_nothing,
    "GroupNormalization": _convert_group_norm,
    "InputLayer": _convert_input,
    "MaxPooling2D": _convert_pooling,
    "Permute": _convert_permutation,
    "Reshape": _convert_reshape,
    "SpatialDropout2D": _convert_nothing,
    "UpSampling2D": _convert_upsampling,
    "UpSampling3D": _convert_upsampling,
}
