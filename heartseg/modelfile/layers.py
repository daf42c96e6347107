"""The layers of a network as its description lists them, without Keras: kinds, options, sources."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WEIGHT_NAMES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "BatchNormalization": (
        "batch_normalization",
        ("gamma", "beta", "moving_mean", "moving_variance"),
    ),
    "Conv2D": ("conv2d", ("kernel", "bias")),
    "Conv2DTranspose": ("conv2d_transpose", ("kernel", "bias")),
    "Conv3D": ("conv3d", ("kernel", "bias")),
    "GroupNormalization": ("group_normalization", ("gamma", "beta")),
}
"""For each kind of layer that has weights: what Keras's files call it, and its weights in order."""


OPTIONS = frozenset(
    {
        *("activation", "axis", "batch_shape", "center", "dilation_rate", "dims", "epsilon"),
        *("groups", "interpolation", "kernel_size", "padding", "pool_size", "scale", "size"),
        *("strides", "target_shape", "use_bias"),
    }
)
"""The options of layers that matter after training."""


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        kind: Name of its Keras class.
        name: Its own name.
        options: As Keras describes it.
        sources: Names of the layers whose outputs it takes.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    sources: tuple[str, ...]

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Names of its weights, in the order of Keras, such as ``stem_conv/kernel``."""
        if self.kind not in WEIGHT_NAMES:
            return ()
        left_out = {
            name
            for option, name in (("use_bias", "bias"), ("scale", "gamma"), ("center", "beta"))
            if self.options.get(option) is False
        }
        names = WEIGHT_NAMES[self.kind][1]
        return tuple(f"{self.name}/{name}" for name in names if name not in left_out)


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        layers: Each after those whose outputs it takes; the first one is the input.
        output: Name of the layer whose output is the result.
    """

    layers: tuple[Layer, ...]
    output: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Architecture":
        """Read the description of a functional model: what its ``get_config()`` returns.

        Raises:
            ValueError: If it describes no network with one input and one output.
        """
        try:
            layers = tuple(
                Layer(
                    str(entry["class_name"]),
                    str(entry["name"]),
                    entry["config"],
                    tuple(_find_sources(entry["inbound_nodes"])),
                )
                for entry in config["layers"]
            )
            outputs = list(_find_names(config["output_layers"]))
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"is not the description of a network ({error!r})") from error
        inputs = [layer for layer in layers if layer.kind == "InputLayer"]
        if len(inputs) != 1 or layers[0] is not inputs[0] or len(outputs) != 1:
            raise ValueError("is not the description of a network with one input and one output")
        return cls(layers, outputs[0])

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Read what ``to_dict`` returned.

        Raises:
            ValueError: If it is something else.
        """
        try:
            layers = tuple(
                Layer(entry["kind"], entry["name"], entry["options"], tuple(entry["sources"]))
                for entry in values["layers"]
            )
            return cls(layers, str(values["output"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"is not the description of a network ({error!r})") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the options that matter after training."""
        return {
            "output": self.output,
            "layers": [
                {
                    "kind": layer.kind,
                    "name": layer.name,
                    "sources": list(layer.sources),
                    "options": {k: v for k, v in layer.options.items() if k in OPTIONS},
                }
                for layer in self.layers
            ],
        }


def _find_sources(nodes: object) -> Iterator[str]:
    """Yield the names of the layers whose outputs enter a layer, in their order."""
    if isinstance(nodes, Mapping):
        if nodes.get("class_name") == "__keras_tensor__":
            yield str(nodes["config"]["keras_history"][0])
        else:
            for entry in nodes.values():
                yield from _find_sources(entry)
    elif isinstance(nodes, (list, tuple)):
        for entry in nodes:
            yield from _find_sources(entry)


def _find_names(outputs: Sequence[Any]) -> Iterator[str]:
    """Yield the names in ``["logits", 0, 0]`` or in a list of such lists."""
    if isinstance(outputs[0], str):
        yield outputs[0]
    else:
        for entry in outputs:
            yield from _find_names(entry)
