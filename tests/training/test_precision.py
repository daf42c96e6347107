import keras
import pytest
import tensorflow as tf

from heartseg.training import precision
from heartseg.training.precision import choose_precision, dtype_policy


def test_auto_takes_bfloat16_only_where_the_processor_computes_in_it(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    for flags, policy in (({"avx2", "avx512_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32")):
        monkeypatch.setattr(precision, "processor_flags", lambda flags=flags: frozenset(flags))
        chosen = choose_precision("auto")
        assert chosen.policy == policy
        assert "bfloat16" in chosen.reason


def test_auto_stays_with_float32_on_jax_without_a_gpu(monkeypatch):
    monkeypatch.setattr(precision, "find_gpus", list)
    monkeypatch.setattr(precision, "find_backend", lambda: "jax")
    monkeypatch.setattr(precision, "processor_flags", lambda: frozenset({"avx512_bf16"}))
    assert choose_precision("auto").policy == "float32"


@pytest.mark.parametrize(
    ("capability", "policy"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")]
)
def test_auto_depends_on_the_gpu_where_there_is_one(monkeypatch, capability, policy):
    config = tf.config
    details = {"device_name": "Card", "compute_capability": capability}
    monkeypatch.setattr(config, "list_physical_devices", lambda _: ["gpu"])
    monkeypatch.setattr(config.experimental, "get_device_details", lambda _: details)
    chosen = choose_precision("auto")
    assert chosen.policy == policy
    assert "Card" in chosen.reason


def test_a_named_precision_is_used_and_an_unknown_one_refused():
    assert choose_precision("float16").policy == "mixed_float16"
    with pytest.raises(ValueError, match="expected auto or float32"):
        choose_precision("int8")


def test_the_policy_is_restored_even_after_an_error():
    with pytest.raises(ValueError, match="broken"), dtype_policy("mixed_bfloat16"):
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise ValueError("broken")
    assert keras.config.dtype_policy().name == "float32"
