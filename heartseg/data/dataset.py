"""Batches for training: pairs of PNG files found by name, streamed from disk by tf.data.

Pictures are unpacked in tf.data's threads; channels and scaling are TensorFlow's, a batch at a
time. ``docs/benchmarks.md`` says what that costs beside bare ``cv2.imdecode``.
"""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from heartseg.data.augment import Augmentation, augment_slice
from heartseg.data.store import read_gray, read_mask
from heartseg.errors import DataError
from heartseg.files import list_folder, natural_key
from heartseg.labels import LabelTable

Batches: TypeAlias = "tf.data.Dataset[Any]"
SCALE = np.float32(1 / 255)
"""What makes intensities in [0, 1] of grey levels."""
_MARK = "heartseg data error"


@dataclass(frozen=True)
class SlicePair:
    """A slice and its colour mask.

    Attributes:
        image_file: Grey PNG.
        mask_file: Colour PNG of the same name and size.
    """

    image_file: Path
    mask_file: Path

    @property
    def name(self) -> str:
        """The name that both share, without suffix: ``pat4_079``."""
        return self.image_file.stem


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several processes reads.

    Attributes:
        index: Which process, from 0.
        count: How many there are; each reads as many slices of a batch.
    """

    index: int = 0
    count: int = 1

    def positions(self, num_slices: int, batch_size: int) -> NDArray[np.int64]:
        """Return which of the slices of an epoch this process reads, in order.

        Args:
            num_slices: Slices of the epoch.
            batch_size: Slices in a batch of all processes together.

        Raises:
            ValueError: If a batch, the last one too, cannot be divided evenly.
        """
        if batch_size % self.count or num_slices % self.count:
            raise ValueError(
                f"{num_slices} slices in batches of {batch_size} do not divide among "
                f"{self.count} processes"
            )
        batches = np.split(np.arange(num_slices), range(batch_size, num_slices, batch_size))
        return np.concatenate([np.split(batch, self.count)[self.index] for batch in batches])


ALL = Share()


def find_pairs(part_dir: Path, *, may_be_empty: bool = False) -> list[SlicePair]:
    """Pair the PNG files in ``images/`` with those of the same name in ``masks/``.

    Args:
        part_dir: Holds both folders.
        may_be_empty: Whether no pair at all is an answer.

    Returns:
        All pairs in natural order (``pat2`` before ``pat10``).

    Raises:
        DataError: If there is none, a folder may not be read, or any file lacks its partner; all
            such are named.
    """
    images, masks = (
        {
            file.name
            for file in list_folder(part_dir / kind, missing_ok=True)
            if file.suffix == ".png"
        }
        for kind in _KINDS
    )
    alone = [
        f"{part_dir / kind / name} (no {part_dir / other / name})"
        for kind, other, names in ((*_KINDS, images - masks), (*_KINDS[::-1], masks - images))
        for name in sorted(names, key=natural_key)
    ]
    if alone:
        raise DataError(
            f"{part_dir}: {len(alone)} slices or masks lack their partner:\n  - "
            + "\n  - ".join(alone)
        )
    if not images and not may_be_empty:
        raise DataError(f"{part_dir}: no PNG files in images/ and masks/; run `heartseg split`")
    return [
        SlicePair(part_dir / "images" / name, part_dir / "masks" / name)
        for name in sorted(images, key=natural_key)
    ]


_KINDS = ("images", "masks")


def read_pair(
    pair: SlicePair, table: LabelTable, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a slice and its labels.

    Args:
        pair: The files.
        table: Gives the label of each colour.
        shape: Height and width that the slice must have.

    Returns:
        ``(H, W)`` grey levels and ``(H, W)`` label indices.

    Raises:
        DataError: If a file is unreadable or of another size, or a colour is not in the table.
    """
    image, labels = read_gray(pair.image_file), read_mask(pair.mask_file, table)
    for file, found in ((pair.image_file, image.shape), (pair.mask_file, labels.shape)):
        if found != shape:
            raise DataError(
                f"{file}: expected {shape[1]} x {shape[0]} pixels (prepare.image_width and "
                f"prepare.image_height), found {found[1]} x {found[0]}"
            )
    return image, labels


def order_of_epoch(num_slices: int, count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Shuffle slices for one epoch; a resumed run asks again and gets the same order.

    Args:
        num_slices: How many slices there are.
        count: How many to return: whole passes over the slices, the last one cut short.
        seed: Seed of the run.
        epoch: Epoch from 0.

    Returns:
        ``(count,)`` indices of slices.
    """
    rng = np.random.default_rng((seed, epoch))
    passes = [rng.permutation(num_slices) for _ in range(-(-count // num_slices))]
    return np.concatenate(passes)[:count].astype(np.int64)


def build_dataset(
    pairs: Sequence[SlicePair],
    *,
    table: LabelTable,
    image_size: tuple[int, int],
    image_channels: int,
    batch_size: int,
    share: Share = ALL,
) -> Batches:
    """Build the batches of one pass over the slices, in the order given.

    Args:
        pairs: The slices, at least one.
        table: Gives the label of each colour.
        image_size: Height and width of every slice.
        image_channels: Channels of a slice; several are copies.
        batch_size: Slices in a batch; the last one may hold fewer.
        share: The part of each batch that is read here.

    Returns:
        Batches of images, float32 ``(B, H, W, C)`` in [0, 1], and labels, uint8 ``(B, H, W)``.
        A broken file ends the iteration with an error of TensorFlow: iterate under
        ``data_errors()`` to see the ``DataError``.
    """
    reader = _Reader(pairs, table, image_size, image_channels)
    positions = share.positions(len(pairs), batch_size)
    return _batches(reader, 0, positions, positions, batch_size // share.count).prefetch(2)


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
    """Build endless batches, epoch after epoch; see ``build_dataset`` for what they hold.

    Order and augmentation of an epoch follow from the seed and the epoch's number alone, so that
    a run resumed at ``first_epoch`` sees what it would have seen.

    Args:
        pairs: The slices, at least one.
        table: Gives the label of each colour.
        image_size: Height and width of every slice.
        image_channels: Channels of a slice; several are copies.
        batch_size: Slices in a batch; the last one of an epoch may hold fewer.
        steps_per_epoch: Batches of an epoch; the default is one pass over the slices.
        seed: Seed of the run.
        first_epoch: Epoch to begin with, from 0.
        augmentation: What may be done to a slice; None leaves all as they are.
        share: The part of each batch that is read here. All shares together are the batches that
            one process alone would read.
    """
    active = augmentation if augmentation and augmentation.is_active else None
    reader = _Reader(pairs, table, image_size, image_channels, seed, active)
    count = len(pairs) if steps_per_epoch is None else steps_per_epoch * batch_size

    positions = share.positions(count, batch_size)

    def order(epoch: np.int64) -> NDArray[np.int64]:
        return order_of_epoch(len(pairs), count, seed=seed, epoch=int(epoch))[positions]

    def batches_of_epoch(epoch: tf.Tensor) -> Batches:
        # Shuffling names, not pixels: the whole set is shuffled at no cost of memory.
        indices = tf.ensure_shape(
            tf.numpy_function(order, [epoch], tf.int64, stateful=False), [len(positions)]
        )
        return _batches(reader, epoch, positions, indices, batch_size // share.count)

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return epochs.flat_map(batches_of_epoch).prefetch(2)


@contextmanager
def data_errors() -> Iterator[None]:
    """Turn what tf.data makes of a ``DataError`` back into one.

    An exception inside tf.data reaches the caller as one of TensorFlow's own, whose message holds
    the text of the first.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(f"<{_MARK}>(.*?)</{_MARK}>", error.message, re.DOTALL)
        if found is None:
            raise
        raise DataError(found[1]) from error


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
        epoch: np.int64,
        positions: NDArray[np.int64],
        indices: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint8] | NDArray[np.float32], NDArray[np.uint8]]:
        """Read the slices ``indices``, which come at ``positions`` in ``epoch``.

        Returns:
            ``(B, H, W)`` grey levels, or intensities in [0, 1] where slices are augmented, and
            labels.
        """
        try:
            slices = [
                self._read_slice(int(epoch), int(position), int(index))
                for position, index in zip(positions, indices, strict=True)
            ]
        except DataError as error:
            raise RuntimeError(f"<{_MARK}>{error}</{_MARK}>") from error
        images, labels = zip(*slices, strict=True)
        return np.stack(images), np.stack(labels)

    def _read_slice(
        self, epoch: int, position: int, index: int
    ) -> tuple[NDArray[np.uint8] | NDArray[np.float32], NDArray[np.uint8]]:
        levels, labels = read_pair(self.pairs[index], self.table, self.image_size)
        if self.augmentation is None:
            return levels, labels
        rng = np.random.default_rng((self.seed, epoch, position))
        image = np.multiply(levels, SCALE, dtype=np.float32)
        return augment_slice(image, labels, self.augmentation, rng)

    def __call__(
        self, epoch: tf.Tensor, positions: tf.Tensor, indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Read a batch, as an operation of TensorFlow's graph."""
        # Stateless: what is read depends on the numbers alone, so tf.data may read in parallel
        # even when TensorFlow is held to deterministic operations.
        images, labels = tf.numpy_function(
            self.read,
            [epoch, positions, indices],
            [tf.float32 if self.augmentation else tf.uint8, tf.uint8],
            stateful=False,
        )
        shape = [None, *self.image_size]
        images = tf.ensure_shape(images, shape)
        scales = tf.fill([1, self.image_channels], tf.constant(1.0 if self.augmentation else SCALE))
        # A product with one row scales and copies at once, in TensorFlow, which uses its memory
        # again: the pages of new arrays cost as much time as OpenCV takes to decode the slice.
        channels = tf.reshape(tf.cast(images, tf.float32), [-1, 1]) @ scales
        return (
            tf.reshape(channels, [-1, *self.image_size, self.image_channels]),
            tf.ensure_shape(labels, shape),
        )


def _batches(
    reader: _Reader,
    epoch: tf.Tensor | int,
    positions: NDArray[np.int64],
    indices: tf.Tensor | NDArray[np.int64],
    batch_size: int,
) -> Batches:
    # One call a core: AUTOTUNE starts with fewer and was a third slower over whole epochs.
    return (
        tf.data.Dataset.from_tensor_slices((positions, indices))
        .batch(batch_size)
        .map(partial(reader, epoch), num_parallel_calls=os.cpu_count() or 1, deterministic=True)
    )
