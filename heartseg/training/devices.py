"""What this process computes on, whether Keras runs on TensorFlow or on JAX.

What differs between the two backends stands here and in ``placement``; nothing else asks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import tensorflow as tf

from heartseg.errors import ModelError

BACKENDS = ("tensorflow", "jax")
_DETERMINISTIC_XLA = "--xla_gpu_exclude_nondeterministic_ops=true"


@dataclass(frozen=True)
class Gpu:
    """A GPU of this process.

    Attributes:
        name: As its maker calls it.
        compute_capability: NVIDIA's number of what it can do; (0, 0) where it has none.
    """

    name: str
    compute_capability: tuple[int, int]


def find_backend() -> str:
    """Return the backend that Keras runs on: ``tensorflow`` or ``jax``.

    Raises:
        ModelError: If it is another one.
    """
    backend = str(keras.backend.backend())
    if backend not in BACKENDS:
        raise ModelError(
            f"KERAS_BACKEND: training runs on {' or '.join(BACKENDS)}, not on {backend!r}"
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


def set_seeds(seed: int, *, deterministic: bool) -> None:
    """Seed every random generator of this process; call it before anything is computed.

    Args:
        seed: The seed.
        deterministic: Whether the backend may only use operations that give the same bits each
            time. This holds for the whole process and cannot be undone.
    """
    keras.utils.set_random_seed(seed)
    if not deterministic:
        return
    if find_backend() == "tensorflow":
        tf.config.experimental.enable_op_determinism()
    else:
        # JAX reads it when it first looks for devices.
        flags = os.environ.get("XLA_FLAGS", "")
        if _DETERMINISTIC_XLA not in flags:
            os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC_XLA}".strip()


@contextmanager
def memory_errors(advice: str) -> Iterator[None]:
    """Turn what the backend raises when memory runs out into a ``ModelError``.

    Args:
        advice: What the user may do about it.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise ModelError(f"out of memory; {advice}") from error
    except RuntimeError as error:
        # JAX has one class for all errors of a device, and names the kind in the message.
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        raise ModelError(f"out of memory; {advice}") from error


def _tensorflow_devices(kind: str | None = None) -> "list[tf.config.PhysicalDevice]":
    return list(tf.config.list_physical_devices(kind))


def _parse_capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor or 0)) if major.isdecimal() else (0, 0)
