"""Settings that Keras keeps for a whole process: a program that uses heartseg may have its own."""

from collections.abc import Iterator
from contextlib import contextmanager

EPSILON = 1e-7


@contextmanager
def own_settings() -> Iterator[None]:
    """Build, load or trace a model as Keras does out of the box, then restore what was set.

    A notebook, or a ``~/.keras/keras.json``, may ask for ``channels_first`` or ``float16``: a
    network that is built from code would then be another one, and its results would be others.
    """
    from keras import config

    before = (
        config.image_data_format(),
        config.floatx(),
        config.epsilon(),
        config.dtype_policy(),
    )
    _set("channels_last", "float32", EPSILON, "float32")
    try:
        yield
    finally:
        _set(*before)


def _set(data_format: str, floatx: str, epsilon: float, policy: object) -> None:
    from keras import config

    config.set_image_data_format(data_format)
    config.set_floatx(floatx)
    config.set_epsilon(epsilon)
    config.set_dtype_policy(policy)
