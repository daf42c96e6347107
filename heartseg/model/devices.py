"""Where the network is trained, and what makes a run repeatable."""

from collections.abc import Sequence

import keras
import tensorflow as tf


def build_strategy(devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """Spread training over several devices, or leave it on the only one.

    Args:
        devices: Names such as ``GPU:0``; the default is every GPU that TensorFlow sees.

    Returns:
        A mirrored strategy for two devices or more, else the default one. Models are built and
        loaded in its ``scope()``, and a batch is divided among its replicas.
    """
    names = devices or [f"GPU:{i}" for i, _ in enumerate(tf.config.list_logical_devices("GPU"))]
    if len(names) < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy(list(names))


def set_seeds(seed: int, *, deterministic: bool) -> None:
    """Seed every random generator of this process.

    Args:
        seed: The seed.
        deterministic: Whether TensorFlow may only use operations that give the same bits each
            time. This holds for the whole process and cannot be undone.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
