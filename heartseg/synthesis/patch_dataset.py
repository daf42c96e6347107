"""Endless patches for the training of a second stage, drawn while the network computes."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from heartseg.slices.batches import ALL, Share, untuned
from heartseg.synthesis.patches import PER_VOLUME, Patches

Batches: TypeAlias = "tf.data.Dataset[Any]"
DrawPatches: TypeAlias = Callable[[int, np.random.Generator], Patches]
"""Draws that many patches."""
GROUP = 2 * PER_VOLUME
"""Patches that are drawn at once, and mixed: those of two hearts."""


def build_patch_dataset(
    draw: DrawPatches,
    patch: tuple[int, int, int],
    *,
    num_classes: int,
    steps_per_epoch: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    share: Share = ALL,
) -> Batches:
    """Build endless batches of what the second stage sees, with one-hot references.

    Patches follow from the seed, their epoch and their place there alone, so that a resumed run
    sees what it would have seen.

    Args:
        draw: Draws patches.
        patch: Voxels of a patch.
        num_classes: Classes, background included.
        steps_per_epoch: Batches of an epoch.
        batch_size: Patches of a batch of all processes together.
        seed: Seed of the run.
        first_epoch: Epoch to begin with, from 0.
        share: The process that the patches are for.
    """
    mine = batch_size // share.count
    per_epoch = steps_per_epoch * mine
    groups = -(-per_epoch // GROUP)

    def make(number: np.int64) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        epoch, group = divmod(int(number), groups)
        rng = np.random.default_rng((seed, epoch, share.index, group))
        drawn = draw(min(GROUP, per_epoch - group * GROUP), rng)
        return drawn.seen, drawn.labels

    def make_in_graph(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seen, labels = tf.numpy_function(make, [number], [tf.float32, tf.uint8], stateful=False)
        seen.set_shape([None, *patch, 1 + num_classes])
        labels.set_shape([None, *patch])
        return seen, labels

    numbers = tf.data.Dataset.range(first_epoch * groups, tf.int64.max)
    drawn = numbers.map(make_in_graph, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
    patches = drawn.unbatch().batch(mine, drop_remainder=True)
    return untuned(patches.map(partial(_with_shares, num_classes=num_classes)).prefetch(4))


def build_fixed_patches(
    parts: Sequence[Patches], *, num_classes: int, batch_size: int = 1, share: Share = ALL
) -> Batches:
    """Build one pass over patches that are held in memory.

    Args:
        parts: What is shown, in this order.
        num_classes: Classes, background included.
        batch_size: Patches of a batch of all processes together.
        share: The part of each batch that is shown here.
    """
    total = sum(len(part.labels) for part in parts)
    mine = Patches.join(parts, share.positions(total, batch_size))
    batches = tf.data.Dataset.from_tensor_slices((mine.seen, mine.labels))
    batches = batches.batch(batch_size // share.count)
    return untuned(batches.map(partial(_with_shares, num_classes=num_classes)))


def _with_shares(
    seen: tf.Tensor, labels: tf.Tensor, *, num_classes: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return one-hot references; a voxel whose label is not known belongs to no class."""
    return seen, tf.one_hot(tf.cast(labels, tf.int32), num_classes)
