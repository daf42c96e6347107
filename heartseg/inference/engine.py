"""A network that is ready to compute, and what computes it: ONNX Runtime or OpenVINO.

``network`` has the same for Keras. Neither Keras nor TensorFlow is needed here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.modelfile.onnx_format import OnnxModel, encode

Compute: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images to what the network returns: ``Predict`` of slices, ``PredictVolume`` of whole hearts."""
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Engine:
    """A network that is ready to compute.

    Attributes:
        compute: From images to what the network returns.
        runtime: The library that computes.
        device: ``CPU`` or ``GPU``.
        precision: Number format of the layers.
    """

    compute: Compute
    runtime: str
    device: str
    precision: str

    def __str__(self) -> str:
        """Say what computes where, for the first line of a command."""
        return f"{self.device} with {self.runtime}, {self.precision}"


def has_onnx_gpu() -> bool:
    """Return whether the installed ONNX Runtime can use GPUs of NVIDIA."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def start_onnx(model: OnnxModel, *, gpu: int | None = None, threads: int = 0) -> Engine:
    """Load a network into ONNX Runtime.

    Args:
        model: The network.
        gpu: Index of the GPU that computes; None: the processor.
        threads: Threads of the processor; 0: one per core.

    Raises:
        ModelError: If ONNX Runtime refuses the network, or cannot use the GPU.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph

    refused = (Fail, InvalidArgument, InvalidGraph, RuntimeError, ValueError)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    # Threads that wait busily would take the time of others: the network computes in short bursts.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # No memory is kept for the next view: the largest arrays are few and soon made.
    options.enable_cpu_mem_arena = False
    providers = (
        ["CPUExecutionProvider"]
        if gpu is None
        else [(CUDA, {"device_id": gpu, "use_tf32": 0}), "CPUExecutionProvider"]
    )
    try:
        session = onnxruntime.InferenceSession(encode(model), options, providers=providers)
    except refused as error:
        raise ModelError(f"ONNX Runtime refuses the network ({_reason(error)})") from error
    if gpu is not None and CUDA not in session.get_providers():
        raise ModelError(f"--device gpu:{gpu}: ONNX Runtime cannot use it; choose --device cpu")
    name = model.source.name

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (result,) = session.run(None, {name: np.ascontiguousarray(images, np.float32)})
        except refused as error:
            raise ModelError(f"the network cannot be computed ({_reason(error)})") from error
        return np.asarray(result, np.float32)

    device = "CPU" if gpu is None else "GPU"
    return Engine(compute, f"ONNX Runtime {onnxruntime.__version__}", device, "float32")


def import_openvino() -> Any:  # noqa: ANN401 - a module that may be missing
    """Return the module of OpenVINO.

    Raises:
        ModelError: If it is not installed.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ModelError(
            "OpenVINO is not installed; run `pip install 'heartseg[openvino]'`, or choose onnx"
        ) from error
    return openvino


def start_openvino(model: OnnxModel, *, threads: int = 0) -> Engine:
    """Load a network into OpenVINO, which computes on the processor.

    Args:
        model: The network.
        threads: Threads of the processor; 0: one per core.

    Raises:
        ModelError: If OpenVINO is not installed, or refuses the network.
    """
    openvino = import_openvino()
    # Without this hint OpenVINO would compute in bfloat16 where the processor does.
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(encode(model)), "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO refuses the network ({_reason(error)})") from error
    request = compiled.create_infer_request()

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found = request.infer([np.ascontiguousarray(images, np.float32)])
        return np.array(found[0], np.float32)

    version = str(openvino.__version__).partition("-")[0]
    return Engine(compute, f"OpenVINO {version}", "CPU", "float32")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else repr(error)
