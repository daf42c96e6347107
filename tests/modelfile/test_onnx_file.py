"""ONNX files: what heartseg writes is valid and the same network; foreign files are refused."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from heartseg.errors import ModelError
from heartseg.inference.engine import start_onnx
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.description import ModelDescription
from heartseg.modelfile.keras_network import read_network
from heartseg.modelfile.layers import Architecture
from heartseg.modelfile.onnx_file import check_ports, read_onnx, read_onnx_metadata, write_onnx
from heartseg.modelfile.onnx_format import decode, encode
from heartseg.modelfile.onnx_graph import build_graph
from heartseg.networks.unet import build_unet
from heartseg.networks.volume_unet import build_volume_unet

METADATA = {"kind": "whole_heart", "labels": HVSMR.description, "network": {"grid": [8, 12, 4]}}


def make_volume_model():
    return build_volume_unet(grid=(8, 12, 4), filters=(8, 16), num_classes=9, seed=3)


def convert(model):
    weights = {variable.path: np.asarray(variable) for variable in model.variables}
    return build_graph(Architecture.from_config(model.get_config()), weights)


@pytest.fixture
def file(tmp_path):
    write_onnx(tmp_path / "heart.onnx", convert(make_volume_model()), METADATA)
    return tmp_path / "heart.onnx"


def test_files_are_valid_for_the_onnx_package_and_read_back_the_same(file):
    onnx.checker.check_model(onnx.load(file), full_check=True)
    content = file.read_bytes()
    assert encode(decode(content)) == content
    metadata = read_onnx_metadata(read_onnx(file), source="x")
    assert metadata == json.loads(json.dumps(METADATA))
    described = ModelDescription.from_metadata(metadata, source="x")
    assert (described.grid, described.table.num_classes) == ((8, 12, 4), 9)


def test_a_network_of_volumes_gives_the_same_logits():
    model = make_volume_model()
    for variable in model.variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape) * 0.2 + 0.1)
    images = np.random.default_rng(2).random((1, 8, 12, 4, 1), np.float32)
    expected = np.asarray(model(images))
    found = start_onnx(convert(model), threads=1).compute(images)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("normalization", ["none", "batch", "group", "instance"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_network_of_slices_gives_the_same_probabilities(normalization, activation, tmp_path):
    model = build_unet(
        image_size=(16, 24),
        num_layers=3,
        base_filters=4,
        dilation=(3, 3),
        normalization=normalization,
        activation=activation,
        seed=5,
    )
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(np.abs(rng.normal(size=variable.shape)) * 0.1 + 0.05)
    save_model(model, tmp_path / "model.keras", {})
    images = rng.random((3, 16, 24, 3), np.float32)

    # Read without Keras: its file numbers layers and weights.
    graph = build_graph(*read_network(tmp_path / "model.keras"))

    found = start_onnx(graph, threads=1).compute(images)
    np.testing.assert_allclose(found, np.asarray(model(images)), atol=1e-5)


def foreign(operator="Relu", shape=(1, 8, 12, 4, 1), domain="", **attributes):
    node = helper.make_node(operator, ["images"], ["y"], domain=domain, **attributes)
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("images", "y")]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    return helper.make_model(graph)


def with_external_data():
    model = foreign()
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def with_false_size():
    model = foreign()
    model.graph.initializer.add(
        name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"abcd"
    )
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (foreign("Loop"), "operator 'Loop'"),
        (foreign("Gelu", domain="com.example"), "com.example"),
        (foreign(shape=(1, 8)), "neither slices nor volumes"),
        (foreign(shape=(1, 1 << 20, 4, 1)), "the side 1048576"),
        (with_external_data(), "field 13"),
        (with_false_size(), "has 4 bytes"),
        (foreign("Conv", strides=[1000, 1000]), "strides"),
    ],
)
def test_foreign_files_are_refused_by_name(tmp_path, model, message):
    (tmp_path / "foreign.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"foreign\.onnx.*{message}"):
        read_onnx(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no", b"\xff" * 100, b"\x08"])
def test_files_that_are_no_onnx_are_refused_by_name(tmp_path, content):
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"other\.onnx: expected an ONNX model"):
        read_onnx(tmp_path / "other.onnx")


def test_damaged_files_are_refused_or_lack_nothing(file):
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 4000, 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            start_onnx(read_onnx(file), threads=1)
        except ModelError:
            continue
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"heart\.onnx.*cut short"):
        read_onnx(file)


def test_a_file_without_or_with_false_metadata_is_refused(file):
    model = read_onnx(file)
    with pytest.raises(ModelError, match="says nothing of labels"):
        read_onnx_metadata(replace(model, metadata={}), source="x")
    with pytest.raises(ModelError, match="metadata is damaged"):
        read_onnx_metadata(replace(model, metadata={"labels": "{"}), source="x")
    false = {**METADATA, "network": {"grid": [8, 8, 8]}}
    described = ModelDescription.from_metadata(false, source="x")
    with pytest.raises(ModelError, match=r"x: expected images .*\(8, 8, 8, 1\).*found"):
        check_ports(model, described, source="x")
