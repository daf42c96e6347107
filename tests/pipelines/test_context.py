"""Networks that see neighbours, on another label table (ACDC), from volumes to an export."""

import csv
import json

import nibabel
import numpy as np
import pytest

from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.label_tables import ACDC
from heartseg.pipelines.export import run_export
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.split import run_split
from heartseg.pipelines.synth import run_synth
from heartseg.pipelines.train import run_training

KEYS = ["RV", "MYO", "LV"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A trained run on three phantoms with the labels of ACDC."""
    folder = tmp_path_factory.mktemp("context")
    run_synth(folder / "volumes", patients=3, size=32, seed=3, overwrite=False, table=ACDC)
    config = Config.model_validate(
        {
            "labels": "acdc",
            "run_dir": folder / "run",
            "data": {
                "source_dir": folder / "volumes",
                "master_dir": folder / "master",
                "dataset_dir": folder / "dataset",
            },
            "prepare": {"image_width": 32, "image_height": 32, "keep_empty": True},
            "split": {"train_cases": ["pat0", "pat1"], "valid_cases": [], "test_cases": ["pat2"]},
            "model": {
                "context": 2,
                "base_filters": 8,
                "base_kernels": [3, 3],
                "num_layers": 2,
                "normalization": "batch",
            },
            "train": {
                "batch_size": 8,
                "epochs": 2,
                "steps_per_epoch": 12,
                "loss": "dice_crossentropy",
                "learning_rate": 0.01,
                "augment": {"rotation_degrees": 10, "noise": 0.02},
                "tensorboard": False,
            },
            "evaluate": {"num_bootstrap": 20},
            "parallel": {"jobs": 1},
        }
    )
    run_prepare(config)
    run_split(config)
    run_training(config)
    return config


def read_labels(file):
    return np.asarray(nibabel.load(file).dataobj)


def test_three_structures_are_scored_and_segmented_alike(config, tmp_path):
    run_evaluation(config)
    with (config.run_dir / "evaluation" / "cases.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["scope"] == "full"]
    assert [row["structure"] for row in rows] == [*KEYS, "whole_heart"]
    source = config.data.source_dir
    reference = read_labels(source / "pat2_cropped_seg.nii.gz")
    voxel_ml = abs(np.linalg.det(nibabel.load(source / "pat2_cropped_seg.nii.gz").affine)) / 1000
    for value, row in enumerate(rows[:-1], start=1):
        volume = (reference == value).sum() * voxel_ml
        assert float(row["volume_reference_ml"]) == pytest.approx(volume, rel=1e-4)

    run_infer(config, [source / "pat2_cropped_norm.nii.gz"], output_dir=tmp_path)
    with (tmp_path / "volumes.csv").open() as stream:
        assert [row["structure"] for row in csv.DictReader(stream)] == KEYS
    scored = read_labels(config.run_dir / "evaluation/predictions/pat2_seg.nii.gz")
    assert scored.shape == reference.shape
    assert set(np.unique(scored)) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(read_labels(tmp_path / "pat2_seg.nii.gz"), scored)


def test_scores_of_the_prepared_slices_are_near_those_of_their_scan(config, tmp_path):
    away = config.data.model_copy(update={"source_dir": tmp_path / "away"})
    of_slices = run_evaluation(config.model_copy(update={"data": away}), output_dir=tmp_path / "a")
    of_scan = run_evaluation(config, output_dir=tmp_path / "b")

    def dice(result):
        return result.summary["scopes"]["full"]["structures"]["whole_heart"]["dice"]["mean"]

    assert dice(of_slices) == pytest.approx(dice(of_scan), abs=0.03)
    assert of_slices.published == of_scan.published


def test_an_exported_model_sees_neighbours_too(config, tmp_path):
    scan = config.data.source_dir / "pat2_cropped_norm.nii.gz"
    result = run_export(config, format_name="onnx", output=tmp_path / "model.onnx", scan_file=scan)
    assert result.different == 0
    # Without the run: all that inference needs is in the file.
    run_infer(None, [scan], model_file=tmp_path / "model.onnx", output_dir=tmp_path / "onnx")
    run_infer(config, [scan], output_dir=tmp_path / "keras")
    of_onnx, of_keras = (
        read_labels(tmp_path / runtime / "pat2_seg.nii.gz") for runtime in ("onnx", "keras")
    )
    assert (of_onnx != of_keras).mean() < 0.01


def test_a_picture_is_refused_since_it_has_no_neighbours(config, tmp_path):
    picture = config.data.dataset_dir / "test" / "images" / "pat2_010.png"
    with pytest.raises(DataError, match=r"sees 2 neighbours on either side .* a picture has none"):
        run_infer(config, [picture], output_dir=tmp_path)


def test_slices_that_lack_neighbours_are_refused_before_training(config, tmp_path):
    part = tmp_path / "dataset" / "train"
    for kind in ("images", "masks"):
        (part / kind).mkdir(parents=True)
        for name in ("pat0_000.png", "pat0_002.png"):
            (part / kind / name).touch()
    (tmp_path / "dataset" / "valid").mkdir()
    record = {"cases": {"train": ["pat0"]}, "descending": []}
    (tmp_path / "dataset" / "split.json").write_text(json.dumps(record))
    data = config.data.model_copy(update={"dataset_dir": tmp_path / "dataset"})
    with pytest.raises(DataError, match="expected all slices of a case from number 0 on"):
        run_training(config.model_copy(update={"data": data, "run_dir": tmp_path / "run"}))


def test_a_split_that_does_not_say_how_slices_are_numbered_is_refused_before_training(
    config, tmp_path
):
    for part in ("train", "valid"):
        (tmp_path / "dataset" / part).mkdir(parents=True)
    record = {"cases": {"train": ["pat0"]}}
    (tmp_path / "dataset" / "split.json").write_text(json.dumps(record))
    data = config.data.model_copy(update={"dataset_dir": tmp_path / "dataset"})
    with pytest.raises(DataError, match=r"split\.json: expected the cases whose .*model\.context"):
        run_training(config.model_copy(update={"data": data, "run_dir": tmp_path / "run"}))
