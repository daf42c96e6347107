"""Batches for training: pairs of PNG files found by name, streamed from disk by tf.data.

Pictures are unpacked in tf.data's threads; scaling is TensorFlow's, a batch at a time.
``docs/maintainers/benchmarks.md`` says what that costs beside bare ``cv2.imdecode``.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import cv2
import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike, NDArray

from heartseg.errors import DataError
from heartseg.files import list_folder, natural_key
from heartseg.labels import LabelTable
from heartseg.slices.augment import Augmentation, augment_slice
from heartseg.slices.store import load_gray, load_mask

T = TypeVar("T", np.uint8, np.float32)
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


def read_pairs(
    pairs: Sequence[SlicePair], table: LabelTable, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read slices and their labels.

    Args:
        pairs: The files.
        table: Gives the label of each colour.
        shape: Height and width that each slice must have.

    Returns:
        ``(N, H, W)`` grey levels and ``(N, H, W)`` label indices.

    Raises:
        DataError: If a file is unreadable or of another size, or a colour is not in the table.
    """
    loaded = [(load_gray(pair.image_file), load_mask(pair.mask_file)) for pair in pairs]
    for picture in chain.from_iterable(loaded):
        if picture.shape != shape:
            raise DataError(
                f"{picture.file}: expected {shape[1]} x {shape[0]} pixels (prepare.image_width and "
                f"prepare.image_height), found {picture.shape[1]} x {picture.shape[0]}"
            )
    # Threads that all call NumPy hand Python's own lock to and fro, and wait more than they work.
    with _ONE_AT_A_TIME:
        images, labels = np.empty((len(pairs), *shape), np.uint8), _aligned((len(pairs), *shape))
        for index, (image, mask) in enumerate(loaded):
            image.gray(out=images[index])
            mask.labels(table, out=labels[index])
    return images, labels


_ONE_AT_A_TIME = Lock()


def _aligned(shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Return an empty array that TensorFlow takes over as it is; others it copies."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


_ALIGNMENT = 64


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
    return _batches(reader, _number(0, positions, positions, batch_size // share.count))


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

    def number_epoch(epoch: tf.Tensor) -> Batches:
        # Shuffling names, not pixels: the whole set is shuffled at no cost of memory.
        indices = tf.ensure_shape(
            tf.numpy_function(order, [epoch], tf.int64, stateful=False), [len(positions)]
        )
        return _number(epoch, positions, indices, batch_size // share.count)

    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
    return _batches(reader, epochs.flat_map(number_epoch))


def untuned(batches: Batches) -> Batches:
    """Switch off tf.data's search for better numbers of threads; all of ours are given.

    Its thread sleeps longer each time, up to a minute, and who ends an iteration may wait for it:
    12 s of ``fit`` returned after 20 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


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
        epochs: NDArray[np.int64],
        positions: NDArray[np.int64],
        indices: NDArray[np.int64],
    ) -> tuple[NDArray[np.uint8] | NDArray[np.float32], NDArray[np.uint8]]:
        """Read the slices ``indices``, which come at ``positions`` in ``epochs``.

        Returns:
            ``(B, H, W, C)`` grey levels, or intensities in [0, 1] where slices are augmented, and
            ``(B, H, W)`` labels.
        """
        try:
            images, labels = read_pairs(
                [self.pairs[index] for index in indices], self.table, self.image_size
            )
        except DataError as error:
            raise RuntimeError(f"<{_MARK}>{error}</{_MARK}>") from error
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
        copies = _aligned((len(images), *self.image_size, self.image_channels), images[0].dtype)
        for image, out in zip(images, copies, strict=True):
            cv2.merge([image] * self.image_channels, out)
        return copies

    def __call__(
        self, epochs: tf.Tensor, positions: tf.Tensor, indices: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Read a batch, as an operation of TensorFlow's graph."""
        # Stateless: what is read depends on the numbers alone, so tf.data may read in parallel
        # even when TensorFlow is held to deterministic operations.
        images, labels = tf.numpy_function(
            self.read,
            [epochs, positions, indices],
            [tf.float32 if self.augmentation else tf.uint8, tf.uint8],
            stateful=False,
        )
        if self.augmentation is None:
            # A cast and its scaling in one pass, exactly: twice as fast as the two.
            images = tf.quantization.dequantize(tf.bitcast(images, tf.quint8), 0.0, 1.0)
        return (
            tf.ensure_shape(images, [None, *self.image_size, self.image_channels]),
            tf.ensure_shape(labels, [None, *self.image_size]),
        )


def _batches(reader: _Reader, numbers: Batches) -> Batches:
    """Read the batches that ``numbers`` tells, each in a call of its own.

    Args:
        reader: Reads one.
        numbers: Epochs, positions and slices of each batch.
    """
    # One call a core: AUTOTUNE starts with fewer and was a third slower over whole epochs.
    calls = os.cpu_count() or 1
    return untuned(numbers.map(reader, num_parallel_calls=calls, deterministic=True).prefetch(2))


def _number(
    epoch: tf.Tensor | int,
    positions: NDArray[np.int64],
    indices: tf.Tensor | NDArray[np.int64],
    batch_size: int,
) -> Batches:
    epochs = tf.fill(positions.shape, tf.cast(epoch, tf.int64))
    return tf.data.Dataset.from_tensor_slices((epochs, positions, indices)).batch(batch_size)
