"""``heartseg export``: a model in other formats, verified and described."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from builders import make_config, make_scan, write_nifti

from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.inference import exports
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.onnx_file import read_onnx, read_onnx_metadata
from heartseg.networks.unet import build_unet
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.pipelines.export import run_export
from heartseg.pipelines.infer import run_infer
from heartseg.slices.recipe import SliceRecipe


def make_run(folder, kind):
    config = make_config(folder, {"model": {"num_layers": 2, "image_channels": 1}})
    config.run_dir.mkdir(parents=True)
    recipe = SliceRecipe(image_height=32, image_width=24, image_channels=1)
    metadata = {"labels": HVSMR.description, "recipe": recipe.to_dict(), "heartseg": "1.2.3"}
    if kind == "slices":
        model = build_unet(
            image_size=(32, 24), image_channels=1, num_layers=2, base_filters=4, seed=5
        )
    else:
        model = build_volume_unet(grid=(8, 16, 8), filters=(8, 16), seed=5)
        metadata |= {"kind": "whole_heart", "network": {"grid": [8, 16, 8]}}
    save_model(model, config.run_dir / "best.keras", metadata)
    return config


@pytest.mark.parametrize("kind", ["slices", "whole_heart"])
@pytest.mark.parametrize("name", list(exports.FORMATS))
def test_every_format_gives_the_labels_of_keras(tmp_path, kind, name):
    config = make_run(tmp_path, kind)
    output = tmp_path / f"out/model{exports.FORMATS[name].suffix}"
    result = run_export(config, format_name=name, output=output)
    assert result.voxels == (8 * 32 * 24 if kind == "slices" else 8 * 16 * 8)
    assert result.different <= result.voxels * 1e-4
    companion = exports.FORMATS[name].companion
    assert len(list(output.parent.iterdir())) == (2 if companion else 1)
    with pytest.raises(DataError, match=r"model.*already exists.*--overwrite"):
        run_export(config, format_name=name, output=output)
    assert read_metadata_of(name, output)["heartseg"] == "1.2.3"


def read_metadata_of(name, output):
    if name == "onnx":
        return read_onnx_metadata(read_onnx(output), source="x")
    if name == "openvino":
        import openvino

        model = openvino.Core().read_model(str(output))
        return {"heartseg": json.loads(model.get_rt_info(["heartseg", "heartseg"]).astype(str))}
    if name == "litert":
        with zipfile.ZipFile(output) as archive:
            return json.loads(archive.read("heartseg.json"))
    return json.loads((output / "assets.extra/heartseg.json").read_text())


def test_an_export_with_other_labels_is_not_written(tmp_path, monkeypatch):
    def start(path):
        return lambda images: np.zeros((*images.shape[:-1], 9), np.float32)

    form = exports.Format(".onnx", exports.FORMATS["onnx"].write, start)
    monkeypatch.setitem(exports.FORMATS, "onnx", form)
    with pytest.raises(ModelError, match=r"model\.onnx: was not written.*more than 0\.01%"):
        run_export(
            make_run(tmp_path, "slices"), format_name="onnx", output=tmp_path / "out/model.onnx"
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_does_not_fit_the_format_and_a_foreign_folder_are_refused(tmp_path):
    config = make_run(tmp_path, "slices")
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        run_export(config, format_name="onnx", output=tmp_path / "model.tflite")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("x")
    with pytest.raises(ModelError, match="did not write"):
        run_export(config, format_name="saved_model", output=tmp_path / "own", overwrite=True)
    assert (tmp_path / "own/thesis.txt").exists()


def test_infer_with_an_exported_file_of_slices_gives_the_labels_of_the_run(tmp_path):
    config = make_run(tmp_path, "slices")
    scan = make_scan((14, 11, 9))
    file = write_nifti(tmp_path / "in/pat4_cropped_norm.nii.gz", scan.image, scan.affine)
    run_export(config, format_name="onnx", output=tmp_path / "model.onnx", scan_file=file)

    run_infer(config, [file], output_dir=tmp_path / "keras")
    run_infer(config, [file], output_dir=tmp_path / "onnx", model_file=tmp_path / "model.onnx")

    keras, onnx = ((tmp_path / name / "pat4_seg.nii.gz").read_bytes() for name in ("keras", "onnx"))
    assert len(keras) > 100
    # The headers name the model; the voxels follow them.
    voxels = 14 * 11 * 9
    assert gzip.decompress(keras)[-voxels:] == gzip.decompress(onnx)[-voxels:]
