"""Endless samples of whole hearts for training, rendered while the network computes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from heartseg.slices.batches import ALL, Share, untuned
from heartseg.synthesis.rendering import Sample, Scan, make_sample
from heartseg.synthesis.scene import Scene

Batches: TypeAlias = "tf.data.Dataset[Any]"


@dataclass(frozen=True)
class HeartSources:
    """What samples are made from.

    Attributes:
        scenes: Chests drawn around label maps.
        scans: Real scans with labels.
        scan_share: Share of the samples that show a scan, if there are any.
        mirror_share: Share of the samples that are mirrored, left for right.
    """

    scenes: Sequence[Scene]
    scans: Sequence[Scan] = ()
    scan_share: float = 0.0
    mirror_share: float = 0.0

    def draw(self, rng: np.random.Generator) -> Scene | Scan:
        """Draw what a sample shows."""
        if self.scans and (not self.scenes or rng.random() < self.scan_share):
            return self.scans[int(rng.integers(len(self.scans)))]
        return self.scenes[int(rng.integers(len(self.scenes)))]


def build_heart_dataset(
    sources: HeartSources,
    grid: tuple[int, int, int],
    *,
    num_classes: int,
    steps_per_epoch: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    share: Share = ALL,
) -> Batches:
    """Build endless batches of images and class shares; see ``Sample``.

    A sample follows from the seed, its epoch and its place there alone, so that a resumed run sees
    what it would have seen.

    Args:
        sources: What samples are made from.
        grid: Voxels of a sample.
        num_classes: Classes, background included.
        steps_per_epoch: Batches of an epoch.
        batch_size: Samples of a batch of all processes together.
        seed: Seed of the run.
        first_epoch: Epoch to begin with, from 0.
        share: The part of each batch that is made here.
    """
    per_epoch = steps_per_epoch * batch_size

    def make(number: np.int64) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng = np.random.default_rng((seed, *divmod(int(number), per_epoch)))
        sample = make_sample(
            sources.draw(rng),
            grid,
            num_classes=num_classes,
            rng=rng,
            mirror_share=sources.mirror_share,
        )
        return sample.image, sample.shares

    def make_in_graph(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, shares = tf.numpy_function(make, [number], [tf.float32, tf.float32], stateful=False)
        return (
            tf.ensure_shape(image, [*grid, 1]),
            tf.ensure_shape(shares, [*grid, num_classes]),
        )

    positions = tf.constant(share.positions(per_epoch, batch_size))
    numbers = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(
        lambda epoch: tf.data.Dataset.from_tensor_slices(epoch * per_epoch + positions)
    )
    samples = numbers.map(make_in_graph, num_parallel_calls=os.cpu_count() or 1, deterministic=True)
    batches = samples.batch(batch_size // share.count, drop_remainder=True)
    return untuned(batches.prefetch(4))


def build_fixed_dataset(
    samples: Sequence[Sample], *, batch_size: int = 1, share: Share = ALL
) -> Batches:
    """Build one pass over samples that are held in memory.

    Args:
        samples: What is shown, in this order.
        batch_size: Samples of a batch of all processes together.
        share: The part of each batch that is shown here.
    """
    mine = [samples[position] for position in share.positions(len(samples), batch_size)]
    images, shares = (
        np.stack([getattr(sample, part) for sample in mine]) for part in ("image", "shares")
    )
    batches = tf.data.Dataset.from_tensor_slices((images, shares))
    return untuned(batches.batch(batch_size // share.count))
