"""How much memory training needs, and how much is free, before anything is allocated."""

from collections.abc import Sequence
from pathlib import Path

import psutil

from heartseg.networks.plan import CONVS_PER_LEVEL, Level, attention_filters, count_parameters

# Calibrated with TensorFlow 2.21 and Keras 3.15 on the peak resident memory of real training steps
# on a CPU: 128 to 512 pixels, batches of 1 to 8, 0.15 to 125 million parameters.
FRAMEWORK_BYTES = 800 << 20
"""TensorFlow after loading, and the traced graph of a small network."""
WEIGHT_COPIES = 6
"""Weights, two moments of Adam, gradients, clipped gradients, and one temporary copy."""
FEATURES_IN_MEMORY = 1.0
FEATURES_IN_MEMORY_NORMALIZED = 1.2
"""Part of all features that is in memory at the same time. More than 1 with normalisation, which
keeps its inputs and its statistics."""
HALF_PRECISION_FACTOR = 0.75
"""Not 0.5: half precision keeps some features and all gradients of weights in float32."""

CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""Files with the memory limit and the memory use of a Linux container: cgroup version 2, then 1."""


def estimate_training_bytes(
    levels: Sequence[Level],
    *,
    image_size: tuple[int, int],
    batch_size: int,
    image_channels: int = 3,
    num_classes: int = 9,
    precision: str = "float32",
    normalized: bool = False,
    attention: bool = False,
    residual: bool = False,
) -> int:
    """Estimate the peak memory of training with Adam, at most about 25 % too high.

    Args:
        levels: The levels of the network, from ``plan_levels``.
        image_size: Height and width of the slices.
        batch_size: Slices per optimizer step.
        image_channels: Channels of a slice.
        num_classes: Classes, background included.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        normalized: Whether the network has normalisation layers.
        attention: Whether it has attention gates.
        residual: Whether its blocks are residual.

    Returns:
        Bytes of the whole process; on a GPU, bytes of the memory of the GPU.
    """
    weights = count_parameters(
        levels,
        image_channels=image_channels,
        num_classes=num_classes,
        normalized=normalized,
        attention=attention,
        residual=residual,
    )
    features: float = count_features(
        levels,
        image_size=image_size,
        image_channels=image_channels,
        num_classes=num_classes,
        normalized=normalized,
        attention=attention,
        residual=residual,
    )
    features *= FEATURES_IN_MEMORY_NORMALIZED if normalized else FEATURES_IN_MEMORY
    if precision != "float32":
        features *= HALF_PRECISION_FACTOR
    return int(FRAMEWORK_BYTES + 4 * (WEIGHT_COPIES * weights + batch_size * features))


def count_features(
    levels: Sequence[Level],
    *,
    image_size: tuple[int, int],
    image_channels: int,
    num_classes: int,
    normalized: bool,
    attention: bool = False,
    residual: bool = False,
) -> int:
    """Count the numbers that all layers of the network output for one slice."""
    height, width = image_size
    # An activation follows every convolution, with or without a normalisation between them.
    layers_per_conv = 3 if normalized else 2
    total = height * width * (image_channels + num_classes)
    for level in levels:
        pixels = (height >> level.index) * (width >> level.index)
        block = level.filters * (CONVS_PER_LEVEL * layers_per_conv + (level.dropout > 0))
        # The projection of the input, normalised or not, and the sum.
        block += level.filters * (layers_per_conv * residual)
        if level is levels[-1]:
            total += pixels * block
        else:
            # The decoder has a block too, after the upsampling and the joined features.
            total += pixels * (2 * block + level.filters + 2 * level.filters)
            total += pixels // 4 * level.filters
            # Two projections, their sum and its activation; a score and its weight; the product.
            total += pixels * (4 * attention_filters(level.filters) + 2 + level.filters) * attention
    return total


def available_bytes() -> int:
    """Return the bytes of memory that this process can still use, inside a container its limit."""
    available = int(psutil.virtual_memory().available)
    for limit_file, usage_file in CGROUP_LIMITS:
        limit, usage = _read_number(limit_file), _read_number(usage_file)
        if limit is not None and usage is not None:
            # The page cache counts as usage, but the system frees it on demand.
            return max(0, min(available, limit - usage + _reclaimable_bytes(limit_file)))
    return available


def _read_number(file: Path) -> int | None:
    """Return the number in a file; None if there is no such file or no limit (``max``)."""
    try:
        content = file.read_text().strip()
    except OSError:
        return None
    return int(content) if content.isdecimal() else None


def _reclaimable_bytes(limit_file: Path) -> int:
    try:
        lines = (limit_file.parent / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    entries = dict(line.split()[:2] for line in lines if len(line.split()) == 2)
    # Version 1 has another name for the count that includes subgroups.
    return int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))
