"""How training is spread over devices, and over processes on several hosts.

On TensorFlow a network can be mirrored on the GPUs of one host. On JAX it can be mirrored on all
devices of all processes; each process then provides its own part of every batch.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from heartseg.errors import ConfigError, ModelError
from heartseg.training.devices import find_backend

JOIN_TIMEOUT_S = 300
"""Seconds that a process waits for the others when training begins."""
SHUTDOWN_TIMEOUT_S = 60
"""Seconds that it waits for them when training has ended."""


@dataclass(frozen=True)
class Hosts:
    """The processes that train one network together, usually one per host or one per GPU.

    Attributes:
        num_processes: Number of processes.
        process_index: Index of this process, from 0.
        coordinator: ``HOST:PORT`` of the first process, to which all connect; None if there is
            only one.
    """

    num_processes: int = 1
    process_index: int = 0
    coordinator: str | None = None


@dataclass(frozen=True)
class Placement:
    """The devices that train one network together.

    Attributes:
        num_replicas: Devices of all processes, among which every batch is divided.
        num_processes: Number of processes.
        process_index: Index of this process, from 0; the first one writes the files.
    """

    num_replicas: int = 1
    num_processes: int = 1
    process_index: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.process_index == 0

    def in_first(self, work: Callable[[], None]) -> None:
        """Do some work in the first process only, while the others wait until it has ended.

        Raises:
            ModelError: In the others, if the work failed in the first.
        """
        if self.num_processes == 1:
            work()
            return
        done = False
        try:
            if self.is_first:
                with _undistributed():
                    work()
            done = True
        finally:
            # Also after an error: if this process left now, the others would wait for it.
            all_done = bool(_gather(np.array([done])).all())
        if not all_done:
            raise ModelError(
                "training stopped, since the first process failed; see the error that it printed"
            )

    def agree(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the values of the first process, so that all processes decide the same."""
        if self.num_processes == 1:
            return dict(values)
        numbers = _gather(np.array(list(values.values()), np.float32))[0]
        return dict(zip(values, numbers.tolist(), strict=True))

    def check_equal(self, facts: str) -> None:
        """Check that all processes are about to do the same.

        Args:
            facts: What this process is about to do, as text or JSON.

        Raises:
            ConfigError: In all processes, if they differ.
        """
        if self.num_processes == 1:
            return
        digest = np.frombuffer(hashlib.sha256(facts.encode()).digest(), np.uint8)
        digests = _gather(digest)
        others = np.flatnonzero((digests != digests[0]).any(axis=1)).tolist()
        if others:
            raise ConfigError(
                "the processes of this training differ in configuration, slices, finished epochs "
                f"or precision: parallel.process_index {others} differ from the first process; "
                "start all of them with the same configuration and files"
            )

    def predict(self, model: keras.Model, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply a model that is being trained, on one device of this process only.

        Args:
            model: From images to probabilities.
            images: ``(B, H, W, C)``.

        Returns:
            ``(B, H, W, K)`` probabilities.
        """
        # A direct call: `predict` would trace another graph, and of several devices all but one
        # would get no slice.
        if self.num_processes == 1:
            return _to_numpy(model(images, training=False))
        # The weights are distributed over all hosts, which would all have to take part; a copy of
        # them needs only this one.
        trainable, others = (
            [keras.ops.convert_to_numpy(variable) for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        )
        outputs, _ = model.stateless_call(trainable, others, images, training=False)
        return _to_numpy(outputs)


@contextmanager
def placed(hosts: Hosts | None = None, devices: Sequence[str] | None = None) -> Iterator[Placement]:
    """Distribute what is built, loaded and fitted in the block over all devices.

    With several processes, end a process whose block ended in an error at once (``os._exit``): at a
    normal exit JAX would wait for the other processes.

    Args:
        hosts: The processes that take part; the default is only this one.
        devices: Names of the devices of this host, such as ``GPU:0``; the default is every GPU,
            or with several processes every device of each.

    Yields:
        The devices and processes that are used.

    Raises:
        ConfigError: If ``hosts`` has several processes and Keras does not run on JAX.
        ModelError: If the processes do not find each other, or one of them is lost.
    """
    hosts = hosts or Hosts()
    if find_backend() == "tensorflow":
        if hosts.num_processes > 1:
            raise ConfigError(
                f"parallel.num_processes: {hosts.num_processes} processes can train together only "
                "on the JAX backend of Keras; install heartseg[jax] and set KERAS_BACKEND=jax"
            )
        with _placed_on_tensorflow(devices) as placement:
            yield placement
    else:
        with _placed_on_jax(hosts, devices) as placement:
            yield placement


@contextmanager
def _placed_on_tensorflow(devices: Sequence[str] | None) -> Iterator[Placement]:
    names = devices or [f"GPU:{i}" for i, _ in enumerate(tf.config.list_logical_devices("GPU"))]
    if len(names) < 2:
        yield Placement()
        return
    strategy = tf.distribute.MirroredStrategy(list(names))
    with strategy.scope():
        yield Placement(strategy.num_replicas_in_sync)


@contextmanager
def _placed_on_jax(hosts: Hosts, devices: Sequence[str] | None) -> Iterator[Placement]:
    import jax

    # On JAX TensorFlow only reads files, which needs no GPU memory.
    tf.config.set_visible_devices([], "GPU")
    if hosts.num_processes > 1:
        _join(hosts)
    names = list(devices or keras.distribution.list_devices())
    if len(names) < 2:
        yield Placement()
        return
    placement = Placement(len(names), hosts.num_processes, hosts.process_index)
    distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    try:
        with distribution.scope():
            yield placement
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # Some functions of JAX raise a ValueError for errors of gloo.
        is_loss = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
        if hosts.num_processes == 1 or not is_loss:
            raise
        raise ModelError(
            "training stopped, since the connection to another process was lost; when all have "
            f"ended, start all of them again with --resume ({str(error).splitlines()[0][:200]})"
        ) from error
    if hosts.num_processes > 1:
        jax.distributed.shutdown()


@contextmanager
def _undistributed() -> Iterator[None]:
    """Create arrays in the block in this process only, not as arrays of all processes."""
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def _join(hosts: Hosts) -> None:
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            hosts.coordinator,
            hosts.num_processes,
            hosts.process_index,
            initialization_timeout=JOIN_TIMEOUT_S,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT_S,
        )
    except RuntimeError as error:
        raise ModelError(
            f"the {hosts.num_processes} processes of this training did not connect at "
            f"{hosts.coordinator} (parallel.coordinator) within {JOIN_TIMEOUT_S} s; start all of "
            f"them, each with its own parallel.process_index ({str(error).splitlines()[0][:200]})"
        ) from error


def _gather(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the ``(N,)`` values of every process as ``(processes, N)``, the same in all."""
    from jax.experimental import multihost_utils

    gathered: NDArray[np.generic] = np.asarray(multihost_utils.process_allgather(values))
    return gathered


def _to_numpy(values: object) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(values), np.float32)
