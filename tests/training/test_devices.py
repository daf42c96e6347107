import os
import sys
import types

import keras
import pytest
import tensorflow as tf

from heartseg.errors import ModelError
from heartseg.training import devices
from heartseg.training.devices import (
    Gpu,
    find_backend,
    find_gpus,
    list_devices,
    memory_errors,
    set_seeds,
)


@pytest.fixture
def on_jax(monkeypatch):
    """Let a test choose the devices of JAX, which need not be installed."""

    def set_devices(*found):
        jax = types.SimpleNamespace(local_devices=lambda: list(found))
        monkeypatch.setitem(sys.modules, "jax", jax)
        monkeypatch.setattr(keras.backend, "backend", lambda: "jax")

    return set_devices


class Device(types.SimpleNamespace):
    def __str__(self):
        return self.label


def test_an_unknown_backend_is_an_error_that_names_the_known_ones(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        ModelError, match="KERAS_BACKEND: expected tensorflow or jax, found 'torch'"
    ):
        find_backend()


def test_gpus_of_tensorflow_have_name_and_compute_capability(monkeypatch):
    details = {"a": {"device_name": "Card", "compute_capability": (9, 0)}, "b": {}}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["a", "b"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert find_gpus() == [Gpu("Card", (9, 0)), Gpu("GPU", (0, 0))]


@pytest.mark.parametrize(
    ("text", "capability"), [("9.0", (9, 0)), ("8", (8, 0)), ("", (0, 0)), ("gfx942", (0, 0))]
)
def test_gpus_of_jax_have_name_and_compute_capability(on_jax, text, capability):
    on_jax(
        Device(platform="cpu", label="TFRT_CPU_0"),
        Device(platform="gpu", device_kind="Card", compute_capability=text, label="cuda:0"),
    )
    assert find_gpus() == [Gpu("Card", capability)]
    assert list_devices() == ["CPU TFRT_CPU_0", "GPU cuda:0"]


def test_the_processor_is_among_the_devices_of_tensorflow():
    assert "CPU /physical_device:CPU:0" in list_devices()


def test_equal_seeds_give_equal_random_numbers():
    drawn = []
    for seed in (3, 3, 4):
        set_seeds(seed, deterministic=False)
        drawn.append(float(keras.random.uniform(())))
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_determinism_on_jax_is_asked_for_once_beside_the_flags_of_the_user(on_jax, monkeypatch):
    on_jax()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=somewhere")
    for _ in range(2):
        set_seeds(1, deterministic=True)
    assert os.environ["XLA_FLAGS"] == f"--xla_dump_to=somewhere {devices._DETERMINISTIC_XLA}"


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
    ],
    ids=["TensorFlow", "JAX"],
)
def test_exhausted_memory_is_an_error_with_advice(error):
    out_of_memory = pytest.raises(ModelError, match="out of memory; use a smaller batch")
    with out_of_memory, memory_errors("use a smaller batch"):
        raise error


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="INTERNAL"), memory_errors("use a smaller batch"):
        raise RuntimeError("INTERNAL: something else")


@pytest.mark.parametrize("name", ["gpu", "gpu:1"])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, name):
    monkeypatch.setattr(devices, "find_gpus", list)
    with pytest.raises(ModelError, match=rf"--device {name}: .* finds 0 GPUs.*--device cpu"):
        devices.choose_device(name)


def test_the_processor_computes_where_it_is_asked_for():
    assert devices.choose_device("cpu") == "CPU"
