"""What batches of any kind need: shares of several processes, the order of epochs, errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from heartseg.errors import DataError

Batches: TypeAlias = "tf.data.Dataset[Any]"
_MARK = "heartseg data error"


@dataclass(frozen=True)
class Share:
    """The samples of every batch that one of several processes reads.

    Attributes:
        index: Number of the process, from 0.
        count: Number of processes; each reads equally many samples of a batch.
    """

    index: int = 0
    count: int = 1

    def positions(self, num_samples: int, batch_size: int) -> NDArray[np.int64]:
        """Return which samples of an epoch this process reads, in order.

        Args:
            num_samples: Number of samples in the epoch.
            batch_size: Number of samples in a batch of all processes together.

        Returns:
            ``(num_samples / count,)`` positions in the epoch.

        Raises:
            ValueError: If a batch, or the last batch, cannot be divided evenly.
        """
        if batch_size % self.count or num_samples % self.count:
            raise ValueError(
                f"{num_samples} samples in batches of {batch_size} cannot be divided evenly among "
                f"{self.count} processes"
            )
        batches = np.split(np.arange(num_samples), range(batch_size, num_samples, batch_size))
        return np.concatenate([np.split(batch, self.count)[self.index] for batch in batches])


ALL = Share()
"""The share of a single process: every sample."""


def order_of_epoch(num_samples: int, count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Shuffle samples for one epoch; equal arguments give the same order, also after a resume.

    Args:
        num_samples: Number of different samples.
        count: Length of the epoch. Each sample occurs once before any occurs again.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        ``(count,)`` indices of samples.
    """
    rng = np.random.default_rng((seed, epoch))
    passes = [rng.permutation(num_samples) for _ in range(-(-count // num_samples))]
    return np.concatenate(passes)[:count].astype(np.int64)


def untuned(batches: Batches) -> Batches:
    """Switch off tf.data's search for the best numbers of threads; ours are fixed.

    The thread that searches sleeps longer each time, up to a minute, and the end of an iteration
    may have to wait for it: ``fit`` of 12 s returned after 20 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


@contextmanager
def data_errors() -> Iterator[None]:
    """Raise the ``DataError`` that occurred inside tf.data.

    An exception inside tf.data reaches the caller as an error of TensorFlow, whose message
    contains the text of the exception.
    """
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(f"<{_MARK}>(.*?)</{_MARK}>", error.message, re.DOTALL)
        if found is None:
            raise
        raise DataError(found[1]) from error


@contextmanager
def inside_tf_data() -> Iterator[None]:
    """Mark a ``DataError`` of the block, which runs inside tf.data, so that it can be restored.

    ``data_errors`` restores it around the iteration.
    """
    try:
        yield
    except DataError as error:
        raise RuntimeError(f"<{_MARK}>{error}</{_MARK}>") from error
