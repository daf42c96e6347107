import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from package_weights import write_packaged

from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.errors import ModelError
from heartseg.inference.network import compile_volume_predict
from heartseg.modelfile.packaged import (
    DESCRIPTION,
    PACKAGED_DIR,
    WEIGHTS,
    describe_packaged,
    is_installed,
    load_packaged,
    render_card,
)
from heartseg.networks.volume_unet import build_volume_unet

ROOT = Path(__file__).parents[2]
FACTS = {
    "name": "small",
    "network": {"grid": [8, 12, 4], "filters": [8, 16], "num_classes": 3},
    "learned_from": record_to_json(TrainingRecord(PartContents(("pat1",)))),
    "training": {
        "recipe": ["A sentence of the recipe."],
        "label_maps": ["pat1", "pat2", "pat3"],
        "real_images": ["pat1"],
        "held_out": ["pat4"],
        "seed": 7,
        "steps": 7500,
        "epochs": 30,
        "minutes": 12.5,
        "learning_rate": 0.001,
        "scan_share": 0.15,
    },
    "structures": ["LV", "RV"],
    "scores": [
        {"case": "pat4", "dice": [0.5, None], "macro": 0.5, "whole": 0.75},
        {"case": "pat5", "dice": [0.7, 0.9], "macro": 0.8, "whole": 0.85},
    ],
    "code_version": "1.2.3",
}


@pytest.fixture
def folder(tmp_path):
    write_packaged(
        build_volume_unet(grid=(8, 12, 4), filters=(8, 16), num_classes=3, seed=3), FACTS, tmp_path
    )
    return tmp_path


def test_weights_are_read_as_written_in_half_precision(folder):
    original = build_volume_unet(grid=(8, 12, 4), filters=(8, 16), num_classes=3, seed=3)

    loaded = load_packaged(folder)

    for a, b in zip(original.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a.astype(np.float16).astype(np.float32), b)
    assert loaded.dtype_policy.name == "float32"


@pytest.mark.parametrize(
    ("data_format", "floatx", "policy"),
    [("channels_first", "float32", "float32"), ("channels_last", "float16", "mixed_float16")],
)
def test_settings_of_the_program_around_change_no_result(folder, data_format, floatx, policy):
    images = np.random.default_rng(0).random((1, 8, 12, 4, 1)).astype(np.float32)
    expected = compile_volume_predict(load_packaged(folder))(images)
    config = keras.config
    before = config.image_data_format(), config.floatx(), config.epsilon(), config.dtype_policy()
    config.set_image_data_format(data_format)
    config.set_floatx(floatx)
    config.set_epsilon(0.125)
    config.set_dtype_policy(policy)
    try:
        found = compile_volume_predict(load_packaged(folder))(images)
        after = config.image_data_format(), config.floatx(), config.epsilon()

        np.testing.assert_array_equal(found, expected)
        assert after == (data_format, floatx, 0.125)
        assert config.dtype_policy().name == policy
    finally:
        config.set_image_data_format(before[0])
        config.set_floatx(before[1])
        config.set_epsilon(before[2])
        config.set_dtype_policy(before[3])


def test_one_changed_byte_is_noticed(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(content)

    with pytest.raises(ModelError, match=r"whole_heart\.npz: expected the checksum .*install"):
        load_packaged(folder)


def rewrite(folder, change):
    """Change the weights and make the checksum fit again."""
    import hashlib

    change(folder / WEIGHTS)
    facts = json.loads((folder / DESCRIPTION).read_text())
    facts["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / DESCRIPTION).write_text(json.dumps(facts))


def test_objects_are_never_unpickled(folder):
    rewrite(folder, lambda file: np.savez(file, x=np.array([print], object)))

    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_packaged(folder)


def test_weights_of_another_network_are_refused(folder):
    def add(file):
        with np.load(file) as archive:
            arrays = dict(archive)
        np.savez(file, extra=np.zeros(3), **arrays)

    rewrite(folder, add)
    with pytest.raises(ModelError, match="holds arrays that the network does not have: extra"):
        load_packaged(folder)

    facts = json.loads((folder / DESCRIPTION).read_text())
    facts["network"]["filters"] = [16, 16]
    (folder / DESCRIPTION).write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="does not fit the network"):
        load_packaged(folder)


def test_a_file_of_weights_that_is_no_archive_is_refused(folder):
    rewrite(folder, lambda file: file.write_bytes(b"nothing of the kind"))
    with pytest.raises(ModelError, match="cannot be read as weights"):
        load_packaged(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_packaged(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": "x", "network": {"grid": [1]}}'])
def test_a_broken_description_is_refused(folder, content):
    (folder / DESCRIPTION).write_text(content)
    with pytest.raises(ModelError, match=r"model\.json"):
        describe_packaged(folder)


def test_without_a_packaged_model_the_error_says_what_to_do(tmp_path):
    assert not is_installed(tmp_path)
    with pytest.raises(ModelError, match=r"no trained model is packaged.*CONFIG"):
        load_packaged(tmp_path)
    assert "No trained model is packaged" in render_card(tmp_path)


def test_the_card_contains_what_the_description_says(folder):
    card = render_card(folder)

    assert "not a medical device" in card
    assert "| pat4 | 0.50 |  | 0.500 | 0.750 |" in card
    assert "Mean over the cases: macro average 0.650, whole heart 0.800." in card
    for text in ("A sentence of the recipe.", "pat1", "seed 7", "7,500 steps", "heartseg 1.2.3"):
        assert text in card
    assert json.loads((folder / DESCRIPTION).read_text())["sha256"] in card
    # Both sources and the licence.
    for text in ("HVSMR-2.0: A 3D", "TensorFlow-FlexUNet", "CC BY 4.0"):
        assert text in card


def test_a_description_without_training_has_no_card(folder):
    facts = json.loads((folder / DESCRIPTION).read_text())
    del facts["training"]
    (folder / DESCRIPTION).write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="lacks an entry that the model card needs"):
        render_card(folder)


def test_the_card_in_the_documentation_is_that_of_the_packaged_model():
    assert (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8") == render_card()


def test_the_packaged_weights_are_whole_and_small_enough_for_a_wheel():
    if not is_installed():
        pytest.skip("no trained model is packaged yet")
    assert (PACKAGED_DIR / WEIGHTS).stat().st_size <= 20_000_000
    with zipfile.ZipFile(PACKAGED_DIR / WEIGHTS) as archive:
        assert archive.testzip() is None
    assert load_packaged().count_params() == describe_packaged().facts["parameters"]
