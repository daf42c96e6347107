import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from heartseg.errors import DataError, ModelError
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model, read_metadata, save_model
from heartseg.networks.unet import build_unet
from heartseg.training.losses import build_loss
from heartseg.training.metrics import METRICS, build_metrics

METADATA = {"version": "1.2", "recipe": {"plane": "sagittal", "size": [8, 8]}, "window": [0.0, 1.0]}


@pytest.fixture(scope="module")
def model():
    network = build_unet(image_size=(8, 8), base_filters=2, num_layers=2, seed=1)
    network.compile("adam", build_loss("dice", 9), metrics=build_metrics(METRICS, HVSMR))
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    network.fit(images, np.ones((2, 8, 8), np.uint8), verbose=0)
    return network


@pytest.fixture
def file(model, tmp_path):
    save_model(model, tmp_path / "best.keras", METADATA)
    return tmp_path / "best.keras"


def test_weights_and_metadata_come_back(model, file):
    again = load_model(file)
    for weight, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert read_metadata(file) == METADATA
    assert [entry.name for entry in file.parent.iterdir()] == ["best.keras"]


@pytest.mark.parametrize("normalization", ["batch", "group", "instance"])
def test_a_normalised_network_comes_back(normalization, tmp_path):
    network = build_unet(
        image_size=(None, None), base_filters=2, num_layers=2, normalization=normalization
    )
    save_model(network, tmp_path / "best.keras", {})
    images = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    again = load_model(tmp_path / "best.keras")
    np.testing.assert_allclose(again(images), network(images), atol=1e-6)


def test_the_optimizer_comes_back_when_asked_for(model, tmp_path):
    file = tmp_path / "last.keras"
    save_model(model, file, METADATA, with_optimizer=True)
    again = load_model(file, compiled=True)
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations) == 1
    images, references = np.ones((1, 8, 8, 3), np.float32), np.ones((1, 8, 8), np.uint8)
    expected = model.evaluate(images, references, verbose=0, return_dict=True)
    assert again.evaluate(images, references, verbose=0, return_dict=True) == pytest.approx(
        expected, nan_ok=True
    )


def test_metadata_are_read_without_a_framework(file):
    script = (
        "import sys; from pathlib import Path; "
        "from heartseg.modelfile.checkpoint import read_metadata; "
        f"read_metadata(Path({str(file)!r})); "
        "print([name for name in ('tensorflow', 'keras', 'h5py') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_failed_save_leaves_the_old_file(model, file):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="values that JSON can hold"):
        save_model(model, file, {"object": object()})
    assert file.read_bytes() == before
    (file.parent / "taken").write_text("a file, not a folder")
    with pytest.raises(DataError, match="cannot be written"):
        save_model(model, file.parent / "taken" / "best.keras", {})


def test_a_name_that_keras_does_not_know_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"a name that ends in \.keras"):
        save_model(model, tmp_path / "best.h5", {})
    with pytest.raises(ModelError, match=r"whose name ends in \.keras"):
        load_model(tmp_path / "best.h5")


@pytest.mark.parametrize("read", [read_metadata, load_model])
def test_a_missing_or_foreign_file_is_named(read, tmp_path):
    with pytest.raises(ModelError, match=r"best\.keras: expected a model file"):
        read(tmp_path / "best.keras")
    (tmp_path / "best.keras").write_bytes(b"not a zip archive" * 100)
    with pytest.raises(ModelError, match=r"best\.keras: expected a \.keras archive"):
        read(tmp_path / "best.keras")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(fraction, file):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * fraction)])
    for read in (read_metadata, load_model):
        with pytest.raises(ModelError, match=r"best\.keras: .*Copy it again"):
            read(file)


def test_a_flipped_bit_in_the_weights_is_noticed(file):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("model.weights.h5")
    content[info.header_offset + info.file_size // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.weights\.h5 is damaged"):
        load_model(file)


def test_a_model_of_keras_alone_has_no_metadata_but_loads(model, tmp_path):
    file = tmp_path / "plain.keras"
    keras.Model(model.input, model.output).save(file)
    with pytest.raises(ModelError, match=r"expected a member heartseg\.json, found none"):
        read_metadata(file)
    assert load_model(file).count_params() == model.count_params()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[1]", "expected a mapping, found list"),
        ("[" * 200_000, "is nested too deeply"),
        ("\xff", "is damaged"),
    ],
)
def test_metadata_that_are_no_mapping_are_refused(content, message, tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
        archive.writestr("heartseg.json", content.encode("latin-1"))
    with pytest.raises(ModelError, match=message):
        read_metadata(tmp_path / "odd.keras")


def test_metadata_that_unfold_without_end_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("heartseg.json", json.dumps({"key": " " * (1 << 25)}))
    with pytest.raises(ModelError, match="is larger than"):
        read_metadata(tmp_path / "odd.keras")
