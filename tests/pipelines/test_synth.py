import hashlib

import nibabel
import numpy as np
import pytest
from builders import list_visible

from heartseg.cohort.clinical import read_clinical_table
from heartseg.errors import DataError
from heartseg.pipelines.synth import run_synth


def make(folder, patients=2, seed=5, overwrite=False, jobs=1, size=32, **more):
    run_synth(
        folder, patients=patients, size=size, seed=seed, overwrite=overwrite, jobs=jobs, **more
    )
    return folder


def hashes(folder):
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("*.nii.gz"))
    }


def test_files_are_named_and_typed_as_in_the_data_set(tmp_path):
    folder = make(tmp_path / "volumes")
    kinds = {"norm": np.float64, "seg": np.int16, "seg_endpoints": np.int16}

    assert list_visible(folder) == sorted(
        ["hvsmr_clinical.csv"]
        + [f"pat{patient}_cropped_{kind}.nii.gz" for patient in range(2) for kind in kinds]
    )
    for kind, dtype in kinds.items():
        image = nibabel.load(folder / f"pat1_cropped_{kind}.nii.gz")
        assert image.get_data_dtype() == dtype
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
        assert nibabel.aff2axcodes(image.affine) == ("P", "I", "R")
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"


def test_bytes_depend_neither_on_cohort_size_nor_on_processes(tmp_path):
    alone = hashes(make(tmp_path / "alone", patients=2, jobs=1))
    among_others = hashes(make(tmp_path / "more", patients=3, jobs=2))

    assert len(alone) == 6
    assert alone == {name: among_others[name] for name in alone}


def test_another_seed_gives_other_patients(tmp_path):
    first, second = (hashes(make(tmp_path / str(s), patients=1, seed=s)) for s in (1, 2))

    assert not set(first.values()) & set(second.values())


def test_the_clinical_table_can_be_read_as_the_real_one(tmp_path):
    folder = make(tmp_path / "volumes", patients=3)
    categories = read_clinical_table(folder / "hvsmr_clinical.csv").categories

    assert list(categories) == ["pat0", "pat1", "pat2"]
    assert set(categories.values()) <= {"mild", "moderate", "severe"}


def test_progress_names_each_patient(tmp_path):
    reported = []
    make(tmp_path / "volumes", report=lambda *entry: reported.append(entry))

    assert reported == [(1, 2, "pat0"), (2, 2, "pat1")]


def test_a_folder_that_is_not_empty_is_not_changed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(DataError, match=r"holds notes\.txt.*--overwrite"):
        make(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_overwrite_replaces_all_phantoms_and_nothing_else(tmp_path):
    make(tmp_path, patients=2)
    (tmp_path / "notes.txt").write_text("mine")
    make(tmp_path, patients=1, overwrite=True)

    assert len(list(tmp_path.glob("pat1_*"))) == 0
    assert len(list(tmp_path.glob("pat0_*"))) == 3
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_real_scans_are_never_overwritten(tmp_path):
    (tmp_path / "hvsmr_technical.csv").write_text("Pat\n")
    scan = tmp_path / "pat0_cropped_norm.nii.gz"
    scan.write_bytes(b"real")

    with pytest.raises(DataError, match=r"looks like the real HVSMR-2\.0 data"):
        make(tmp_path, overwrite=True)
    assert scan.read_bytes() == b"real"


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"size": 16}, {"seed": -1}])
def test_arguments_out_of_range_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(DataError, match="expected patients >= 1"):
        make(tmp_path / "volumes", **wrong)
    assert not (tmp_path / "volumes").exists()
