"""``heartseg export``: a model in other formats, verified and described."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from builders import make_config, make_scan, write_nifti

from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.inference import exports
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.onnx_file import read_onnx, read_onnx_metadata
from heartseg.networks.correction_unet import build_correction_unet
from heartseg.networks.unet import build_unet
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.pipelines.export import run_export
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.synth import run_synth
from heartseg.scans.volume import read_label_map
from heartseg.slices.recipe import SliceRecipe

STAGE = {"grid": [16, 24, 12], "patch": [8, 16, 12], "filters": [8, 16]}


def make_run(folder, kind, *, second_stage=False):
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
    second = None
    if second_stage:
        second = build_correction_unet(patch=(8, 16, 12), filters=(8, 16), seed=6)
        rng = np.random.default_rng(1)
        second.get_layer("correction").kernel.assign(rng.normal(0, 0.3, (1, 1, 1, 8, 72)))
        metadata["second_stage"] = STAGE
    save_model(model, config.run_dir / "best.keras", metadata, second_stage=second)
    return config


@pytest.mark.parametrize("name", ["onnx", "openvino", "litert"])
def test_a_second_stage_is_exported_beside_the_first(tmp_path, name):
    config = make_run(tmp_path, "whole_heart", second_stage=True)
    suffix = exports.FORMATS[name].suffix
    result = run_export(config, format_name=name, output=tmp_path / f"out/heart{suffix}")
    assert result.second_file == tmp_path / f"out/heart_second_stage{suffix}"
    assert result.second_file.exists()
    assert result.voxels == 8 * 16 * 8 + 8 * 16 * 12
    assert result.different <= result.voxels * 1e-4


def test_a_second_stage_that_is_left_out_is_not_exported(tmp_path):
    config = make_run(tmp_path, "whole_heart", second_stage=True)
    off = Config.model_validate({"run_dir": config.run_dir, "infer": {"second_stage": False}})

    result = run_export(off, format_name="onnx", output=tmp_path / "out/heart.onnx")

    assert result.second_file is None
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["heart.onnx"]
    metadata = read_onnx_metadata(read_onnx(result.file), source="heart.onnx")
    assert "second_stage" not in metadata
    assert metadata["identity"].endswith(", first stage only")


def test_infer_with_an_exported_file_uses_the_second_stage_beside_it(tmp_path):
    config = make_run(tmp_path, "whole_heart", second_stage=True)
    run_synth(tmp_path / "scans", patients=1, size=48, seed=11, overwrite=False, jobs=1)
    scan = tmp_path / "scans/pat0_cropped_norm.nii.gz"
    heart, second = tmp_path / "heart.onnx", tmp_path / "heart_second_stage.onnx"
    run_export(config, format_name="onnx", output=heart)
    off = Config.model_validate({"infer": {"second_stage": False}})

    run_infer(config, [scan], output_dir=tmp_path / "keras")
    run_infer(Config(), [scan], output_dir=tmp_path / "onnx", model_file=heart)
    run_infer(off, [scan], output_dir=tmp_path / "first", model_file=heart)

    keras, onnx, first = (
        read_label_map(tmp_path / name / "pat0_seg.nii.gz", HVSMR).voxels
        for name in ("keras", "onnx", "first")
    )
    assert (keras == onnx).mean() > 0.9999
    assert (keras == first).mean() < 0.999
    names = [
        json.loads((tmp_path / name / "pat0.json").read_text())["model"]
        for name in ("onnx", "first")
    ]
    assert names[1] == f"{names[0]}, first stage only"

    with pytest.raises(ModelError, match="is the second stage of a model; name the file of"):
        run_infer(Config(), [scan], output_dir=tmp_path / "x", model_file=second)
    second.write_bytes(second.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="is not the second stage that belongs to"):
        run_infer(Config(), [scan], output_dir=tmp_path / "x", model_file=heart)
    second.unlink()
    with pytest.raises(ModelError, match=r"heart_second_stage\.onnx: cannot be read .*copy both"):
        run_infer(Config(), [scan], output_dir=tmp_path / "x", model_file=heart)


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
