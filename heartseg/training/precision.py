"""The number format that the network computes in, and the reason for it."""

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras

from heartseg.training.devices import find_backend, find_gpus

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
AMPERE = (8, 0)
"""The first compute capability of NVIDIA GPUs whose tensor cores support bfloat16."""
CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Linux's names for the feature of x86 and Arm CPUs that multiply bfloat16 in hardware."""


@dataclass(frozen=True)
class Precision:
    """The number format of the layers; weights, softmax and loss stay float32.

    Attributes:
        policy: Name of the Keras dtype policy.
        reason: Why this one was chosen, for the log.
    """

    policy: str
    reason: str


def choose_precision(name: str) -> Precision:
    """Choose the number format of the layers.

    Args:
        name: ``float32``, ``bfloat16``, ``float16``, or ``auto``: bfloat16 where every GPU computes
            in it (without a GPU, on TensorFlow: where the CPU does), otherwise float32.

    Raises:
        ValueError: If the name is not one of these.
    """
    if name != "auto":
        if name not in POLICIES:
            raise ValueError(f"precision: expected auto or {', '.join(POLICIES)}, got {name!r}")
        return Precision(POLICIES[name], f"{name}, as configured")
    gpus = find_gpus()
    if gpus:
        device = f"{gpus[0].name} (compute capability {gpus[0].compute_capability})"
        has_bfloat16 = min(gpu.compute_capability for gpu in gpus) >= AMPERE
    elif find_backend() == "jax":
        # Measured with JAX 0.10 on AVX512-BF16: 1.04 s per step, 1.09 s in float32.
        return Precision(
            POLICIES["float32"], "float32, since lower precision is no faster with JAX on a CPU"
        )
    else:
        device = platform.processor() or platform.machine() or "CPU"
        has_bfloat16 = bool(CPU_FLAGS & processor_flags())
    if has_bfloat16:
        return Precision(POLICIES["bfloat16"], f"bfloat16, since {device} computes in it")
    return Precision(POLICIES["float32"], f"float32, since {device} does not compute in bfloat16")


def processor_flags() -> frozenset[str]:
    """Return the features of the CPU by their Linux names; empty where they are unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return _apple_flags()
    flags = (line.partition(":") for line in lines)
    return frozenset(
        word
        for key, _, words in flags
        if key.strip() in ("flags", "Features")
        for word in words.split()
    )


def _apple_flags() -> frozenset[str]:
    if platform.system() != "Darwin":
        return frozenset()
    try:
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"],
            capture_output=True,
            check=False,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset({"bf16"} if answer.stdout.strip() == b"1" else ())


@contextmanager
def dtype_policy(policy: str) -> Iterator[None]:
    """Set the dtype policy of layers that are built in the block, then restore the old one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
