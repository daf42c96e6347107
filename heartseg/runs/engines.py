"""Which library computes a model on which device, and the model loaded into it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from heartseg.config.schema import Config
from heartseg.errors import ConfigError, ModelError
from heartseg.inference.engine import Engine, has_onnx_gpu, start_onnx, start_openvino
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.modelfile.onnx_file import SUFFIX, read_onnx
from heartseg.modelfile.onnx_format import OnnxModel
from heartseg.modelfile.packaged import load_packaged, load_packaged_graph

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def start_engine(model_file: Path | None, model: ModelDescription, config: Config) -> Engine:
    """Load a model into the library that ``infer.runtime`` and ``parallel.device`` ask for.

    With ``auto`` that is ONNX Runtime for the packaged model and for ONNX files, and Keras for
    models of one's own. Where ONNX Runtime cannot use GPUs, ``--device gpu`` means Keras.

    Args:
        model_file: A ``.keras`` or ``.onnx`` file; None: the packaged model.
        model: What the model was trained for.
        config: Uses the sections ``infer`` and ``parallel``.

    Raises:
        ConfigError: If runtime and device do not go together.
        ModelError: If the model or the device cannot be used.
    """
    runtime, device, threads = config.infer.runtime, config.parallel.device, config.parallel.threads
    is_portable = model_file is not None and model_file.suffix == SUFFIX
    on_gpu = device.startswith("gpu")
    if runtime == "tensorflow" and is_portable:
        raise ConfigError(f"infer.runtime: tensorflow cannot read {model_file}; use onnx or auto")
    if runtime == "auto":
        own = model_file is not None and not is_portable
        runtime = "tensorflow" if own else "onnx"
        if on_gpu and not is_portable and not has_onnx_gpu():
            runtime = "tensorflow"
    if runtime == "tensorflow":
        return load_keras(model_file, model, config)[1]
    if runtime == "openvino":
        if on_gpu:
            raise ConfigError("--device gpu: infer.runtime: openvino computes on the processor")
        engine = start_openvino(_load_graph(model_file), threads=threads)
    else:
        gpu = _find_onnx_gpu(device)
        engine = start_onnx(_load_graph(model_file), gpu=gpu, threads=threads)
    logger.info("computing on the %s", engine)
    return engine


def _find_onnx_gpu(device: str) -> int | None:
    if device == "cpu" or (device == "auto" and not has_onnx_gpu()):
        return None
    if not has_onnx_gpu():
        raise ModelError(
            f"--device {device}: this ONNX Runtime computes on processors only; install "
            "onnxruntime-gpu in place of onnxruntime, or choose --device cpu"
        )
    return int(device.partition(":")[2] or 0)


def _load_graph(model_file: Path | None) -> OnnxModel:
    if model_file is None:
        return load_packaged_graph()
    if model_file.suffix == SUFFIX:
        return read_onnx(model_file)
    return convert_keras_file(model_file)


def convert_keras_file(model_file: Path) -> OnnxModel:
    """Convert the model of a run to ONNX, without Keras.

    Raises:
        ModelError: If it is damaged, or has a layer that cannot be converted.
    """
    from heartseg.modelfile.keras_network import read_network
    from heartseg.modelfile.onnx_graph import build_graph

    try:
        return build_graph(*read_network(model_file))
    except (KeyError, ValueError) as error:
        raise ModelError(f"{model_file}: cannot be converted to ONNX ({error})") from error


def load_keras(
    model_file: Path | None, model: ModelDescription, config: Config
) -> "tuple[keras.Model, Engine]":
    """Load a model into Keras, on the device that ``parallel.device`` names.

    Args:
        model_file: A ``.keras`` file; None: the packaged model.
        model: What the model was trained for.
        config: Uses the sections ``infer`` and ``parallel``.

    Returns:
        The Keras model, and what computes it.

    Raises:
        ModelError: If the model or the device cannot be used.
    """
    from heartseg.inference import network
    from heartseg.modelfile.checkpoint import load_model
    from heartseg.training.devices import choose_device, name_runtime

    device = choose_device(config.parallel.device, threads=config.parallel.threads)
    loaded = load_packaged() if model_file is None else load_model(model_file)
    compute = (
        network.compile_volume_predict(loaded)
        if model.kind == WHOLE_HEART
        else network.compile_predict(loaded, model.recipe, batch_size=config.infer.batch_size)
    )
    engine = Engine(compute, name_runtime(), device, network.find_precision(loaded))
    logger.info("computing on the %s", engine)
    return loaded, engine
