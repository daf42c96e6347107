"""Data sets with other structures and other values, from volumes to scores, with both kinds."""

import csv
import json

import nibabel
import numpy as np
import pytest

from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.label_tables import MMWHS
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.split import run_split
from heartseg.pipelines.synth import run_synth
from heartseg.pipelines.train import run_training
from heartseg.slices.store import read_mask

KEYS = [structure.key for structure in MMWHS.foreground]
SPLIT = {"train_cases": ["pat0", "pat1"], "valid_cases": [], "test_cases": ["pat2"]}
NETWORKS = {
    "slices": (
        {
            "image_channels": 1,
            "base_filters": 8,
            "base_kernels": [3, 3],
            "num_layers": 2,
            "attention": True,
            "block": "residual",
        },
        {"batch_size": 8, "metrics": ["dice_per_structure"]},
    ),
    "whole_heart": (
        {"kind": "whole_heart", "grid": [16, 16, 16], "filters": [8]},
        {"batch_size": 1, "metrics": [], "loss": "dice_crossentropy"},
    ),
}


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory):
    """Phantoms in the layout of nnU-Net, their seven structures in another order than MM-WHS's."""
    folder = tmp_path_factory.mktemp("labels")
    run_synth(folder / "phantoms", patients=3, size=32, seed=3, overwrite=False, table=MMWHS)
    labels = {"background": 0, **{key: n for n, key in enumerate(reversed(KEYS), start=1)}}
    stored = {MMWHS.foreground[KEYS.index(k)].stored_values[0]: labels[k] for k in KEYS}
    source = folder / "Dataset501_heart"
    for part in ("imagesTr", "labelsTr"):
        (source / part).mkdir(parents=True)
    for file in (folder / "phantoms").glob("*_norm.nii.gz"):
        case = file.name.split("_")[0]
        file.rename(source / "imagesTr" / f"{case}_0000.nii.gz")
        image = nibabel.load(folder / "phantoms" / f"{case}_cropped_seg.nii.gz")
        voxels = np.asarray(image.dataobj)
        values = np.zeros(voxels.shape, np.uint8)
        for value, other in stored.items():
            values[voxels == value] = other
        nibabel.save(nibabel.Nifti1Image(values, image.affine), source / "labelsTr" / f"{case}.nii")
    (source / "dataset.json").write_text(
        json.dumps({"labels": labels, "channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"})
    )
    return source


@pytest.fixture(scope="module")
def configs(source_dir):
    folder = source_dir.parent

    def settings(kind):
        model, train = NETWORKS[kind]
        values = {
            "labels": "mmwhs",
            "run_dir": folder / kind,
            "data": {
                "layout": "nnunet",
                "source_dir": source_dir,
                "master_dir": folder / "master",
                "dataset_dir": folder / "dataset",
            },
            "prepare": {"image_width": 32, "image_height": 32, "window_range": [0, 1.5]},
            "split": SPLIT,
            "model": model,
            "train": {"epochs": 1, "steps_per_epoch": 3, "tensorboard": False, **train},
            "evaluate": {"num_bootstrap": 20},
            "parallel": {"jobs": 1},
        }
        if kind == "whole_heart":
            values["synthesis"] = {"scenes_per_label_map": 1, "scan_share": 0.5}
        return Config.model_validate(values)

    configs = {kind: settings(kind) for kind in NETWORKS}
    run_prepare(configs["slices"])
    run_split(configs["slices"])
    return configs


def test_masks_have_the_labels_of_the_table(configs, source_dir):
    labels = np.asarray(nibabel.load(source_dir / "labelsTr" / "pat0.nii").dataobj)
    # The data set counts down where the table counts up.
    expected = np.bincount(np.where(labels > 0, 8 - labels, 0).ravel(), minlength=8)
    found = np.zeros(8, int)
    for file in (configs["slices"].data.master_dir / "masks").glob("pat0_*.png"):
        found += np.bincount(read_mask(file, MMWHS).ravel(), minlength=8)
    found, expected = (counts[1:] / counts[1:].sum() for counts in (found, expected))
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("kind", NETWORKS)
def test_seven_structures_are_learned_scored_and_segmented(configs, source_dir, tmp_path, kind):
    config = configs[kind]
    run_training(config)
    run_evaluation(config)
    with (config.run_dir / "evaluation" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["structure"] for row in rows] == [*KEYS, "whole_heart"]
    labels = np.asarray(nibabel.load(source_dir / "labelsTr" / "pat2.nii").dataobj)
    voxel_ml = abs(np.linalg.det(nibabel.load(source_dir / "labelsTr" / "pat2.nii").affine)) / 1000
    for number, row in enumerate(rows[:-1], start=1):
        volume = (labels == 8 - number).sum() * voxel_ml
        assert float(row["volume_reference_ml"]) == pytest.approx(volume, rel=1e-4)

    folders = {"layout": "folders", "image_folder": "imagesTr", "label_folder": "labelsTr"}
    for data, message in (
        ({}, "the label 'MYO' .* is not among the structures LV"),
        (folders, "the model knows the labels background, MYO, .* lists background, LV"),
    ):
        other = {"labels": Config().labels, "data": config.data.model_copy(update=data)}
        with pytest.raises(DataError, match=message):
            run_evaluation(config.model_copy(update=other), output_dir=tmp_path / "other")

    scan = source_dir / "imagesTr" / "pat2_0000.nii.gz"
    run_infer(config, [scan], output_dir=tmp_path)
    with (tmp_path / "volumes.csv").open() as stream:
        assert [row["structure"] for row in csv.DictReader(stream)] == KEYS
    written = nibabel.load(tmp_path / "pat2_0000_seg.nii.gz")
    assert np.asarray(written.dataobj).max() < MMWHS.num_classes
    assert written.shape == labels.shape
    scored = nibabel.load(config.run_dir / "evaluation" / "predictions" / "pat2_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(scored.dataobj))
