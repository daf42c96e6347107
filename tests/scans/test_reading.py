"""One reader for every format: the same scan in each of them, and what a path is."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_scan, rotate, write_nifti
from dicom_builders import IDENTITY, make_enhanced, save, write_archive, write_classic
from itk_images import write_itk

from heartseg.errors import DataError
from heartseg.scans.reading import (
    SCAN_SUFFIXES,
    find_scan,
    is_dicom,
    is_scan,
    name_file,
    read_scan,
    read_scan_image,
)

AFFINE = rotate(make_affine("LPS"))
VOXELS = (make_scan().image * 1000 + 200).astype(np.int16)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The same scan in every format that is read."""

    folder = tmp_path_factory.mktemp("scans")
    for suffix in (".nii", ".nii.gz"):
        write_nifti(folder / f"a{suffix}", VOXELS, AFFINE)
    for suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        write_itk(folder / f"a{suffix}", VOXELS, AFFINE)
    for suffix in (".mgz", ".mgh"):
        nibabel.save(nibabel.MGHImage(VOXELS, AFFINE), folder / f"a{suffix}")
    save(make_enhanced(VOXELS, AFFINE), folder / "a.dcm")
    write_classic(folder / "series", VOXELS, AFFINE)
    write_archive(folder / "a.zip", folder / "series")
    return folder


@pytest.mark.parametrize(
    "name",
    ["series", *(f"a{suffix}" for suffix in SCAN_SUFFIXES if suffix[1:3] not in ("im", "di"))],
)
def test_every_format_gives_the_same_volume(scans, name):
    path = scans / name
    assert is_scan(path)
    volume = read_scan(path)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=0, atol=1e-4)

    image = read_scan_image(str(path))
    np.testing.assert_array_equal(image.get_fdata(), VOXELS)
    np.testing.assert_allclose(image.affine, AFFINE, rtol=0, atol=1e-4)
    assert image.header["qform_code"] == image.header["sform_code"] == 1


def test_a_series_is_chosen_in_dicom_only(scans):
    assert read_scan(scans / "series", series=3).voxels.shape == VOXELS.shape
    with pytest.raises(DataError, match=r"a\.nii\.gz: a series can be chosen in DICOM only"):
        read_scan(scans / "a.nii.gz", series=3)
    with pytest.raises(DataError, match="series: holds no series 4"):
        read_scan_image(scans / "series", series=4)


def test_other_names_are_refused_with_those_that_are_read(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"a\.txt: expected a name that ends in \.nii, .*\.zip$"):
        read_scan(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"none\.mgz: no such file"):
        read_scan(tmp_path / "none.mgz")


def test_a_scan_is_told_by_its_name_and_a_folder_by_its_files(scans, tmp_path):
    (tmp_path / "a.png").touch()
    assert not is_scan(tmp_path / "a.png")
    assert not is_scan(tmp_path)
    assert is_scan(scans / "NEW.MHA")
    assert [is_dicom(scans / name) for name in ("series", "a.zip", "a.nrrd")] == [True, True, False]


def test_a_dicom_file_is_told_by_its_content_whatever_its_name(scans, tmp_path):
    for name in ("IM000001", "1.2.840.113"):
        (tmp_path / name).write_bytes((scans / "a.dcm").read_bytes())
        assert is_scan(tmp_path / name)
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, VOXELS)
    (tmp_path / "notes").write_text("text")
    assert not is_scan(tmp_path / "notes")


def test_results_are_named_by_the_file_or_folder(scans, tmp_path):
    folder = write_classic(tmp_path / "heart.2", VOXELS, AFFINE)
    paths = (scans / "a.nii.gz", scans / "a.mgz", scans / "a.zip", scans / "series", folder)
    assert [find_scan(path).name for path in paths] == ["a", "a", "a", "series", "heart.2"]


@pytest.mark.parametrize(
    "name", ["Doe_Jane", "export ID-4711", "20240229-mr", "2024-02-29", "29.02.2024", "id_4711"]
)
def test_results_of_a_folder_named_after_the_patient_are_not(tmp_path, name):
    assert IDENTITY["PatientName"] == "DOE^JANE"
    assert find_scan(write_classic(tmp_path / name, VOXELS, AFFINE)).name == "scan"


@pytest.mark.parametrize("name", ["Müller", "Mu\u0308ller", "MULLER", "山田"])
def test_accents_and_other_scripts_do_not_hide_a_name(tmp_path, name):
    values = {"PatientName": "Müller^Uwe=山田^太郎", "SpecificCharacterSet": "ISO_IR 192"}
    assert find_scan(write_classic(tmp_path / name, VOXELS, AFFINE, **values)).name == "scan"


def test_a_file_that_is_named_after_the_patient_is_shown_without_its_name(tmp_path, scans):
    files = [save(make_enhanced(VOXELS, AFFINE), tmp_path / f"{n}.dcm") for n in ("DOE", "heart")]
    assert [name_file(file) for file in (*files, scans / "a.nrrd")] == [
        "scan",
        "heart.dcm",
        "a.nrrd",
    ]


def test_values_that_are_not_finite_count_as_zero_in_every_format(tmp_path, caplog):
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, :2] = np.nan, 1e35
    nibabel.save(nibabel.MGHImage(voxels, AFFINE), tmp_path / "a.mgz")
    assert read_scan(tmp_path / "a.mgz").voxels[0, 0, :2].tolist() == [0, 0]
    assert f"{tmp_path / 'a.mgz'}: voxels that are not finite are set to 0: 2 of" in caplog.text


def test_without_a_dicom_scan_highdicom_is_not_loaded(scans):
    # nibabel itself loads pydicom where it is installed.
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from heartseg.scans.reading import read_scan\n"
        "for name in sys.argv[1:]:\n    read_scan(Path(name))\n"
        "print(sorted({'highdicom', 'SimpleITK'} & set(sys.modules)))\n"
    )
    names = [str(scans / f"a{suffix}") for suffix in (".nii.gz", ".nrrd", ".mha", ".mgz")]
    ran = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.strip() == "[]", ran.stderr
