"""Whether training fits into memory, before anything is allocated."""

from collections.abc import Sequence
from pathlib import Path

import psutil

from heartseg.networks.plan import CONVS_PER_LEVEL, Level, count_parameters

# Calibrated on TensorFlow 2.21 and Keras 3.15 by the peak resident memory of real training steps
# on a processor: 128 to 512 pixels, batches of 1 to 8, 0.15 to 125 million parameters.
BYTES_OF_FRAMEWORK = 800 << 20
"""TensorFlow loaded, and the graph of a small network traced."""
COPIES_OF_WEIGHTS = 6
"""Weights, two moments of Adam, gradients, clipped gradients, and one in passing."""
SHARE_OF_FEATURES = 1.0
NORMALIZED_SHARE_OF_FEATURES = 1.2
"""Features alive at once as a share of all: normalisation keeps its inputs and statistics."""
HALF_PRECISION_SHARE = 0.75
"""Half precision keeps some features and all gradients of weights in float32."""

CGROUP_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)
"""What a container on Linux may use and uses, cgroup version 2, then 1."""


def estimate_training_bytes(
    levels: Sequence[Level],
    *,
    image_size: tuple[int, int],
    batch_size: int,
    image_channels: int = 3,
    num_classes: int = 9,
    precision: str = "float32",
    normalized: bool = False,
) -> int:
    """Estimate the peak memory of training with Adam, to about a quarter.

    Args:
        levels: The network, by ``plan_levels``.
        image_size: Height and width of the slices.
        batch_size: Slices of one step.
        image_channels: Channels of a slice.
        num_classes: Classes, background included.
        precision: ``float32``, ``bfloat16`` or ``float16``.
        normalized: Whether the network has normalisation layers.

    Returns:
        Bytes of the whole process, or on a GPU of its own memory.
    """
    weights = count_parameters(
        levels, image_channels=image_channels, num_classes=num_classes, normalized=normalized
    )
    features = count_features(
        levels,
        image_size=image_size,
        image_channels=image_channels,
        num_classes=num_classes,
        normalized=normalized,
    )
    share = NORMALIZED_SHARE_OF_FEATURES if normalized else SHARE_OF_FEATURES
    if precision != "float32":
        share *= HALF_PRECISION_SHARE
    return int(
        BYTES_OF_FRAMEWORK + 4 * (COPIES_OF_WEIGHTS * weights + share * batch_size * features)
    )


def count_features(
    levels: Sequence[Level],
    *,
    image_size: tuple[int, int],
    image_channels: int,
    num_classes: int,
    normalized: bool,
) -> int:
    """Count the numbers that the layers of the network give for one slice."""
    height, width = image_size
    # Every convolution is followed by its activation, with or without a normalisation between.
    layers_per_conv = 3 if normalized else 2
    total = height * width * (image_channels + num_classes)
    for level in levels:
        pixels = (height >> level.index) * (width >> level.index)
        block = level.filters * (CONVS_PER_LEVEL * layers_per_conv + (level.dropout > 0))
        if level is levels[-1]:
            total += pixels * block
        else:
            # The decoder has a block too, behind an upsampling and the joint features.
            total += pixels * (2 * block + level.filters + 2 * level.filters)
            total += pixels // 4 * level.filters
    return total


def available_bytes() -> int:
    """Return the memory that this process may still take, within the limit of its container."""
    available = int(psutil.virtual_memory().available)
    for limit_file, usage_file in CGROUP_LIMITS:
        limit, usage = _read_number(limit_file), _read_number(usage_file)
        if limit is not None and usage is not None:
            # The pages of files that were read count as usage but are given back on demand.
            return max(0, min(available, limit - usage + _reclaimable_bytes(limit_file)))
    return available


def _read_number(file: Path) -> int | None:
    """Return the number in a file, or None where there is no such file or no limit (``max``)."""
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
    # Version 1 counts the whole subtree under a name of its own.
    return int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))
