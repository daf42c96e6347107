"""The devices that this process computes on, with TensorFlow or JAX as the backend of Keras.

All differences between the two backends are here and in ``placement``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import tensorflow as tf

from heartseg.errors import ModelError
from heartseg.plurals import counted

BACKENDS = ("tensorflow", "jax")
_DETERMINISTIC_XLA = "--xla_gpu_exclude_nondeterministic_ops=true"


@dataclass(frozen=True)
class Gpu:
    """A GPU of this process.

    Attributes:
        name: Name given by the manufacturer.
        compute_capability: NVIDIA's version number of its features; (0, 0) where it has none.
    """

    name: str
    compute_capability: tuple[int, int]


def find_backend() -> str:
    """Return the backend that Keras runs on: ``tensorflow`` or ``jax``.

    Raises:
        ModelError: If it is another backend.
    """
    backend = str(keras.backend.backend())
    if backend not in BACKENDS:
        raise ModelError(
            f"KERAS_BACKEND: expected {' or '.join(BACKENDS)}, found {backend!r}; unset it to use "
            "TensorFlow"
        )
    return backend


def list_devices() -> list[str]:
    """Return the devices of this process, such as ``GPU /physical_device:GPU:0``."""
    if find_backend() == "tensorflow":
        return [f"{device.device_type} {device.name}" for device in _tensorflow_devices()]
    import jax

    return [f"{device.platform.upper()} {device}" for device in jax.local_devices()]


def find_gpus() -> list[Gpu]:
    """Return the GPUs that the backend sees in this process."""
    if find_backend() == "tensorflow":
        details = [
            tf.config.experimental.get_device_details(gpu) for gpu in _tensorflow_devices("GPU")
        ]
        return [
            Gpu(entry.get("device_name", "GPU"), entry.get("compute_capability", (0, 0)))
            for entry in details
        ]
    import jax

    return [
        Gpu(device.device_kind, _parse_capability(getattr(device, "compute_capability", "")))
        for device in jax.local_devices()
        if device.platform == "gpu"
    ]


def name_runtime() -> str:
    """Return the name and version of what computes for Keras."""
    if find_backend() == "tensorflow":
        return f"TensorFlow {tf.__version__}"
    import jax

    return f"JAX {jax.__version__}"


def choose_device(name: str, *, threads: int = 0) -> str:
    """Let this process compute on one device only. Call it before anything is computed.

    Args:
        name: ``auto`` (GPUs if there are some), ``cpu``, ``gpu`` (all of them), or ``gpu:N``.
        threads: Threads of the processor; 0: one per core.

    Returns:
        ``CPU`` or ``GPU``.

    Raises:
        ModelError: If there is no such device, or the process has computed already.
    """
    gpus = find_gpus()
    index = int(name.partition(":")[2] or 0)
    if name.startswith("gpu") and index >= len(gpus):
        backend = find_backend()
        raise ModelError(
            f"--device {name}: {backend} finds {counted(len(gpus), 'GPU')} in this process; choose "
            "--device cpu, or install what the GPU needs (docs/portable.md)"
        )
    try:
        if find_backend() == "tensorflow":
            _limit_tensorflow(name, index, threads)
        else:
            _limit_jax(name, index, threads)
    except RuntimeError as error:
        raise ModelError(
            f"--device, --threads: cannot be changed any more in this process ({error})"
        ) from error
    return "GPU" if gpus and name != "cpu" else "CPU"


def _limit_tensorflow(name: str, index: int, threads: int) -> None:
    if name == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif ":" in name:
        tf.config.set_visible_devices([_tensorflow_devices("GPU")[index]], "GPU")
    if threads and tf.config.threading.get_intra_op_parallelism_threads() != threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def _limit_jax(name: str, index: int, threads: int) -> None:
    import jax

    if threads:
        raise ModelError(
            "--threads: JAX takes no number of threads; start heartseg with `taskset`, or on "
            "TensorFlow"
        )
    if name == "cpu":
        jax.config.update("jax_default_device", jax.devices("cpu")[0])
    elif ":" in name:
        jax.config.update("jax_default_device", jax.devices("gpu")[index])


def set_seeds(seed: int, *, deterministic: bool) -> None:
    """Seed every random generator of this process. Call it before anything is computed.

    Args:
        seed: The seed.
        deterministic: Whether the backend may use only operations that give the same bits every
            time. This applies to the whole process and cannot be undone.
    """
    keras.utils.set_random_seed(seed)
    if not deterministic:
        return
    if find_backend() == "tensorflow":
        tf.config.experimental.enable_op_determinism()
    else:
        # JAX reads the variable when it first looks for devices.
        flags = os.environ.get("XLA_FLAGS", "")
        if _DETERMINISTIC_XLA not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC_XLA}".strip()


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn the backend's exception for exhausted memory into a ``ModelError``.

    Args:
        advice: What the user can do about it.

    Raises:
        ModelError: If memory runs out within the block.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise ModelError(f"out of memory; {advice}") from error
    except RuntimeError as error:
        # JAX has one class for all errors of a device; only the message names the kind.
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        raise ModelError(f"out of memory; {advice}") from error


def _tensorflow_devices(kind: str | None = None) -> "list[tf.config.PhysicalDevice]":
    return list(tf.config.list_physical_devices(kind))


def _parse_capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor or 0)) if major.isdecimal() else (0, 0)
