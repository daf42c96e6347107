"""Batches of slices for training and validation, streamed from PNG files by tf.data.

Pictures are decoded in tf.data's threads, and TensorFlow scales a whole batch at a time.
The page of benchmarks compares this with plain ``cv2.imdecode``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from heartseg.labels import LabelTable
from heartseg.opencv import cv2
from heartseg.slices.augment import Augmentation, augment_slice
from heartseg.slices.batches import ALL, Batches, Share, inside_tf_data, order_of_epoch, untuned
from heartseg.slices.pairs import SlicePair, empty_aligned, read_pairs

T = TypeVar("T", np.uint8, np.float32)
SCALE = np.float32(1 / 255)
"""Factor from grey levels to intensities in [0, 1]."""


def build_dataset(
    pairs: Sequence[SlicePair],
    *,
    table: LabelTable,
    image_size: tuple[int, int],
    image_channels: int,
    batch_size: int,
    share: Share = ALL,
) -> Batches:
    """Build the batches of one pass over the slices, in the given order.

    Args:
        pairs: The slices, at least one.
        table: The label of each colour.
        image_size: Height and width of every slice.
        image_channels: Channels of the network's input: a slice and its neighbours, or copies of
            a slice alone.
        batch_size: Slices per batch; the last batch may be smaller.
        share: The part of each batch that this process reads.

    Returns:
        Batches of images, float32 ``(B, H, W, C)`` in [0, 1], and labels, uint8 ``(B, H, W)``.
        A broken file ends the iteration with an error of TensorFlow; iterate inside
        ``data_errors()`` to get the ``DataError``.
    """
    reader = _Reader(pairs, table, image_size, image_channels)
    positions = share.positions(len(pairs), batch_size)
    return _read_batches(reader, _number(0, positions, positions, batch_size // share.count))


def build_training_dataset(
    pairs: Sequence[SlicePair],
    *,
    table: LabelTable,
    image_size: tuple[int, int],
    image_channels: int,
    batch_size: int,
    steps_per_epoch: int | None = None,
    seed: int,
    first_epoch: int = 0,
    augmentation: Augmentation | None = None,
    share: Share = ALL,
) -> Batches:
    """Build endless batches, epoch after epoch, with the content of ``build_dataset``.

    The order and the augmentation of an epoch depend on the seed and on the number of the epoch
    alone, so that a run resumed at ``first_epoch`` gets the batches that it would have got.

    Args:
        pairs: The slices, at least one.
        table: The label of each colour.
        image_size: Height and width of every slice.
        image_channels: Channels of the network's input: a slice and its neighbours, or copies of
            a slice alone.
        batch_size: Slices per batch; the last batch of an epoch may be smaller.
        steps_per_epoch: Batches per epoch; by default those of one pass over the slices.
        seed: Seed of the run.
        first_epoch: Number of the first epoch, from 0.
        augmentation: How slices may be changed; None leaves them unchanged.
        share: The part of each batch that this process reads. The shares of all processes together
            are the batches of a single process.
    """
    active = augmentation if augmentation and augmentation.is_active else None
    reader = _Reader(pairs, table, image_size, image_channels, seed, active)
    count = len(pairs) if steps_per_epoch is None else steps_per_epoch * batch_size
    positions = share.positions(count, batch_size)

    def order(epoch: np.int64) -> NDArray[np.int64]:
        return order_of_epoch(len(pairs), count, seed=seed, epoch=int(epoch))[positions]

    def number_epoch(epoch: tf.Tensor) -> Batches:
        # Indices are shuffled, not pixels, so that shuffling the whole set needs no memory.
        indices = tf.ensure_shape(
            tf.numpy_function(order, [epoch], tf.int64, stateful=False), [len(positions)]
        )
        return _number(epoch, positions, indices, batch_size // share.count)

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return _read_batches(reader, epochs.flat_map(number_epoch))


@dataclass(frozen=True)
class _Reader:
    """Reads one batch inside tf.data."""

    pairs: Sequence[SlicePair]
    table: LabelTable
    image_size: tuple[int, int]
    image_channels: int
    seed: int = 0
    augmentation: Augmentation | None = None

    def read(
        self,
        epochs: NDArray[np.int64],
        positions: NDArray[np.int64],
        indices: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint8] | NDArray[np.float32], NDArray[np.uint8]]:
        """Read the slices ``indices``, which are at ``positions`` in ``epochs``.

        Returns:
            ``(B, H, W, C)`` grey levels, or intensities in [0, 1] if slices are augmented, and
            ``(B, H, W)`` labels.
        """
        with inside_tf_data():
            images, labels = read_pairs(
                [self.pairs[index] for index in indices], self.table, self.image_size
            )
        if self.augmentation is None:
            return self._copy_channels(images), labels
        changed = [
            augment_slice(
                np.multiply(levels, SCALE, dtype=np.float32),
                reference,
                self.augmentation,
                np.random.default_rng((self.seed, epoch, position)),
            )
            for epoch, position, levels, reference in zip(
                epochs, positions, images, labels, strict=True
            )
        ]
        intensities, references = zip(*changed, strict=True)
        return self._copy_channels(intensities), np.stack(references)

    def _copy_channels(self, images: Sequence[NDArray[T]] | NDArray[T]) -> NDArray[T]:
        shape = (len(images), *self.image_size, self.image_channels)
        copies = empty_aligned(shape, images[0].dtype)
        for image, out in zip(images, copies, strict=True):
            cv2.merge(list(image) * (self.image_channels // len(image)), out)
        return copies

    def __call__(
        self, epochs: tf.Tensor, positions: tf.Tensor, indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Read a batch, as an operation of TensorFlow's graph."""
        # Stateless, because a batch depends on these numbers alone: tf.data may then read in
        # parallel even if TensorFlow is restricted to deterministic operations.
        images, labels = tf.numpy_function(
            self.read,
            [epochs, positions, indices],
            [tf.float32 if self.augmentation else tf.uint8, tf.uint8],
            stateful=False,
        )
        if self.augmentation is None:
            # This casts and scales in one pass, with the exact same result as the two operations,
            # in half the time.
            images = tf.quantization.dequantize(tf.bitcast(images, tf.quint8), 0.0, 1.0)
        return (
            tf.ensure_shape(images, [None, *self.image_size, self.image_channels]),
            tf.ensure_shape(labels, [None, *self.image_size]),
        )


def _read_batches(reader: _Reader, numbers: Batches) -> Batches:
    """Read batches, each in a call of its own.

    Args:
        reader: Reads one batch.
        numbers: Epochs, positions and indices of the slices of each batch.
    """
    # One call per core: AUTOTUNE starts with fewer and was a third slower over whole epochs.
    calls = os.cpu_count() or 1
    return untuned(numbers.map(reader, num_parallel_calls=calls, deterministic=True).prefetch(2))


def _number(
    epoch: tf.Tensor | int,
    positions: NDArray[np.int64],
    indices: tf.Tensor | NDArray[np.int64],
    batch_size: int,
) -> Batches:
    """Return the epoch, position and index of each slice, in batches."""
    epochs = tf.fill(positions.shape, tf.cast(epoch, tf.int64))
    return tf.data.Dataset.from_tensor_slices((epochs, positions, indices)).batch(batch_size)
