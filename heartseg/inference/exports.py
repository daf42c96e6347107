"""The portable formats of a network: one writer per format, and what computes the file again."""

import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.inference.engine import Compute, import_openvino, start_onnx
from heartseg.modelfile.layers import Architecture
from heartseg.modelfile.onnx_file import read_onnx, write_onnx
from heartseg.modelfile.onnx_format import OnnxModel, encode

if TYPE_CHECKING:
    import keras

METADATA_FILE = "heartseg.json"
"""Where formats without metadata of their own keep it."""
LARGEST_RANK = 6
"""Axes that LiteRT can put into another order."""


@dataclass(frozen=True)
class Network:
    """A network in the two forms that formats are written from.

    Attributes:
        graph: As ONNX.
        model: As Keras, in float32.
    """

    graph: OnnxModel
    model: "keras.Model"


@dataclass(frozen=True)
class Format:
    """A portable format.

    Attributes:
        suffix: How its file ends; empty: it is a folder.
        write: Writes a network with its metadata to a path.
        start: Returns what computes a written file.
        companion: The ending of a second file beside the first; empty: there is none.
    """

    suffix: str
    write: Callable[[Path, Network, Mapping[str, Any]], None]
    start: Callable[[Path], Compute]
    companion: str = ""


def _write_onnx(path: Path, network: Network, metadata: Mapping[str, Any]) -> None:
    write_onnx(path, network.graph, metadata)


def _start_onnx(path: Path) -> Compute:
    return start_onnx(read_onnx(path)).compute


def _write_openvino(path: Path, network: Network, metadata: Mapping[str, Any]) -> None:
    openvino = import_openvino()
    model = openvino.Core().read_model(encode(network.graph))
    for key, value in metadata.items():
        model.set_rt_info(json.dumps(value), ["heartseg", key])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _start_openvino(path: Path) -> Compute:
    core = import_openvino().Core()
    compiled = core.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return lambda images: np.array(request.infer([images])[0], np.float32)


def _write_litert(path: Path, network: Network, metadata: Mapping[str, Any]) -> None:
    """Write a LiteRT file; the metadata is a zip archive at its end, as LiteRT has it."""
    import tensorflow as tf

    function = _without_high_ranks(network.model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA_FILE, json.dumps(dict(metadata)))


def _without_high_ranks(model: "keras.Model") -> Any:  # noqa: ANN401 - TensorFlow has no types
    """Return a network of one image as a function, without a batch where there are many axes."""
    import keras
    import tensorflow as tf

    architecture = Architecture.from_config(model.get_config())
    weights = [(variable, tf.constant(np.asarray(variable))) for variable in model.variables]

    def compute(images: Any) -> Any:  # noqa: ANN401 - tensors
        results = {architecture.layers[0].name: images}
        for layer in architecture.layers[1:]:
            given = [results[name] for name in layer.sources]
            if layer.kind == "Reshape":
                shape = tuple(layer.options["target_shape"])
                batch = () if len(shape) + 1 > LARGEST_RANK else (1,)
                found = tf.reshape(given[0], (*batch, *shape))
            elif layer.kind == "Permute" and len(layer.options["dims"]) + 1 > LARGEST_RANK:
                found = tf.transpose(given[0], [axis - 1 for axis in layer.options["dims"]])
            else:
                taken = given if len(given) > 1 else given[0]
                # The converter loses variables, so weights are constants.
                with keras.StatelessScope(weights):
                    found = model.get_layer(layer.name)(taken, training=False)
            results[layer.name] = found
        return results[architecture.output]

    signature = [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="images")]
    return tf.function(compute, input_signature=signature, autograph=False)


def _start_litert(path: Path) -> Compute:
    import tensorflow as tf

    with warnings.catch_warnings():
        # TensorFlow announces that LiteRT will become a package of its own.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found = []
        for image in images:
            interpreter.set_tensor(source, image[np.newaxis])
            interpreter.invoke()
            found.append(interpreter.get_tensor(result)[0])
        return np.asarray(found, np.float32)

    return compute


def _write_saved_model(path: Path, network: Network, metadata: Mapping[str, Any]) -> None:
    network.model.export(str(path), format="tf_saved_model", verbose=False)
    # TensorFlow leaves this folder of a SavedModel to its writer.
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / METADATA_FILE).write_text(json.dumps(dict(metadata), indent=1), encoding="utf-8")


def _start_saved_model(path: Path) -> Compute:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(loaded.serve(tf.constant(images)), np.float32)

    # The function needs the object that it comes from.
    compute.__dict__["loaded"] = loaded
    return compute


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", _write_onnx, _start_onnx),
    "openvino": Format(".xml", _write_openvino, _start_openvino, ".bin"),
    "litert": Format(".tflite", _write_litert, _start_litert),
    "saved_model": Format("", _write_saved_model, _start_saved_model),
}
"""The formats by their names."""


def remove_export(path: Path) -> None:
    """Remove an earlier export.

    Raises:
        ModelError: If it is a folder that holds something else.
    """
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not (path / "assets.extra" / METADATA_FILE).is_file():
        raise ModelError(f"{path}: is a folder that `heartseg export` did not write; name another")
    shutil.rmtree(path)
