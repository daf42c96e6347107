import json

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_config, make_scan, read_tree, rotate, write_case, write_nifti

from heartseg.config.loading import load_config
from heartseg.errors import BatchError, DataError
from heartseg.label_tables import MMWHS
from heartseg.pipelines.export_dataset import run_export
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.split import run_split
from heartseg.runs.source_data import find_source

STORED = np.array([0, 205, 420, 500, 550, 600, 820, 850], np.int16)


@pytest.fixture
def config(tmp_path):
    """Six cases of a data set with the values of MM-WHS."""
    for number in range(6):
        scan = make_scan(seed=number, num_classes=8)
        write_nifti(
            tmp_path / "volumes" / f"c{number}_cropped_norm.nii.gz", scan.image, scan.affine
        )
        write_nifti(
            tmp_path / "volumes" / f"c{number}_cropped_seg.nii.gz", STORED[scan.labels], scan.affine
        )
    config = make_config(tmp_path, {"split": {"folds": 3}})
    return config.model_copy(update={"labels": load_config(None, ["labels=mmwhs"]).labels})


@pytest.mark.parametrize(("target", "channel"), [("nnunet", "_0000"), ("msd", "")])
def test_an_export_holds_every_case_on_one_grid_and_can_be_read_again(
    config, tmp_path, target, channel
):
    folder = tmp_path / "Dataset501_heart"
    result = run_export(config, target, folder)

    assert result.num_cases == 6
    for number in range(6):
        scan = make_scan(seed=number, num_classes=8)
        image = nibabel.load(folder / "imagesTr" / f"c{number}{channel}.nii.gz")
        labels = nibabel.load(folder / "labelsTr" / f"c{number}.nii.gz")
        np.testing.assert_allclose(image.get_fdata(), scan.image, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(labels.dataobj), scan.labels)
        assert labels.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.affine, labels.affine)
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
    data = {"source_dir": folder, "layout": target}
    again = config.model_copy(update={"data": config.data.model_copy(update=data)})
    found = find_source(again)
    assert [case.name for case in found.cases] == [f"c{number}" for number in range(6)]
    # The values of the export, not those of MM-WHS.
    assert found.table == MMWHS
    assert found.table.source_labels == {value: value for value in range(8)}


def test_the_folds_of_the_split_are_those_of_nnunet(config, tmp_path):
    run_prepare(config)
    run_split(config)
    folder = tmp_path / "Dataset501_heart"
    assert run_export(config, "nnunet", folder).num_folds == 3

    folds = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == [f"c{n}" for n in range(6)]
    for number, fold in enumerate(folds):
        record = json.loads((config.data.dataset_dir / f"fold_{number}/split.json").read_text())
        assert fold["val"] == record["cases"]["test"]
        assert sorted(fold["train"]) == sorted(record["cases"]["train"] + record["cases"]["valid"])


def test_one_split_is_one_fold_and_one_by_slice_is_none(config, tmp_path, caplog):
    lists = {"train_cases": ("c0",), "valid_cases": ("c1",), "test_cases": ("c2", "c3")}
    listed = config.model_copy(
        update={"split": config.split.model_copy(update={"folds": 0, **lists})}
    )
    run_export(listed, "nnunet", tmp_path / "a")
    folds = json.loads((tmp_path / "a" / "splits_final.json").read_text())
    assert folds == [{"train": ["c0", "c1"], "val": ["c2", "c3"]}]

    by_slice = config.model_copy(
        update={"split": config.split.model_copy(update={"folds": 0, "by": "slice"})}
    )
    run_prepare(by_slice)
    run_split(by_slice)
    assert run_export(by_slice, "nnunet", tmp_path / "b").num_folds == 0
    assert not (tmp_path / "b" / "splits_final.json").exists()
    assert "divides slices, not patients" in caplog.text


def test_a_split_of_other_cases_is_an_error(config, tmp_path):
    lists = {"train_cases": ("c0",), "valid_cases": (), "test_cases": ("c9",)}
    listed = config.model_copy(
        update={"split": config.split.model_copy(update={"folds": 0, **lists})}
    )
    with pytest.raises(DataError, match=r"the split names c9, which .* lacks"):
        run_export(listed, "nnunet", tmp_path / "a")


def test_nothing_is_overwritten_unasked(config, tmp_path):
    folder = tmp_path / "Dataset501_heart"
    run_export(config, "nnunet", folder)
    before = read_tree(folder)
    with pytest.raises(DataError, match="pass --overwrite"):
        run_export(config, "nnunet", folder)
    assert read_tree(folder) == before
    run_export(config, "nnunet", folder, overwrite=True)
    assert read_tree(folder) == before

    strange = write_nifti(tmp_path / "other" / "labelsTr" / "c0.nii.gz", STORED, np.eye(4))
    content = strange.read_bytes()
    with pytest.raises(DataError, match="did not make"):
        run_export(config, "nnunet", tmp_path / "other", overwrite=True)
    assert strange.read_bytes() == content


def test_a_case_that_cannot_be_read_is_a_problem_and_the_others_are_written(config, tmp_path):
    (config.data.source_dir / "c3_cropped_seg.nii.gz").write_bytes(b"broken")
    with pytest.raises(BatchError, match="1 of 6 cases could not be exported") as caught:
        run_export(config, "nnunet", tmp_path / "a")
    assert "c3_cropped_seg.nii.gz" in str(caught.value)
    described = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert described["numTraining"] == 5
    assert not (tmp_path / "a" / "imagesTr" / "c3_0000.nii.gz").exists()


def test_texts_of_headers_stay_behind_and_scanner_values_stay_whole(tmp_path):
    scan = make_scan()
    image = np.rint(1000 * scan.image).astype(np.int16)
    write_case(tmp_path / "volumes", "c0", scan)
    write_nifti(
        tmp_path / "volumes" / "c0_cropped_norm.nii.gz", image, scan.affine, descrip=b"Jane Doe"
    )
    run_export(make_config(tmp_path), "nnunet", tmp_path / "a")
    written = nibabel.load(tmp_path / "a" / "imagesTr" / "c0_0000.nii.gz")
    assert b"Jane" not in written.header.binaryblock
    assert written.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(written.dataobj), image)


def test_sheared_axes_get_the_reader_that_takes_them(tmp_path):
    scan = make_scan()
    affine = rotate(make_affine())
    affine[:3, 2] += 0.4 * affine[:3, 0]
    for kind, voxels in (("norm", scan.image), ("seg", scan.labels)):
        write_nifti(tmp_path / "volumes" / f"c0_cropped_{kind}.nii.gz", voxels, affine)
    run_export(make_config(tmp_path), "nnunet", tmp_path / "a")
    described = json.loads((tmp_path / "a" / "dataset.json").read_text())
    assert described["overwrite_image_reader_writer"] == "NibabelIO"
