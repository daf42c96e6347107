"""Which series a folder or archive holds, how one is chosen, and what no message repeats."""

import logging
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from builders import make_affine
from dicom_builders import (
    IDENTITY,
    SECRETS,
    make_base,
    make_classic,
    make_enhanced,
    save,
    set_pixels,
    write_archive,
    write_classic,
)

from heartseg.errors import DataError, MissingPackageError
from heartseg.scans import dicom_files
from heartseg.scans.dicom import read_dicom
from heartseg.scans.dicom_files import holds_dicom, looks_like_dicom
from heartseg.scans.dicom_series import choose_series, find_series

SPACING = (0.9, 1.1, 2.5)
VOXELS = np.random.default_rng(2).integers(0, 4000, (12, 10, 6)).astype(np.uint16)
AFFINE = make_affine("LPS", SPACING)


def write_series(folder, number, *, description="whole heart", voxels=VOXELS, affine=AFFINE, **v):
    uid = pydicom.uid.generate_uid(entropy_srcs=[str(folder), str(number)])
    return write_classic(
        folder / f"s{number}",
        voxels,
        affine,
        SeriesNumber=number,
        SeriesDescription=description,
        SeriesInstanceUID=v.pop("uid", uid),
        **v,
    )


@pytest.fixture
def examination(tmp_path):
    """A folder with a whole heart (7), a cine (4) and a CT (11)."""
    write_series(tmp_path / "exam", 7)
    for phase in range(2):
        uid = "1.2.3.4"
        folder = tmp_path / "exam" / f"phase{phase}"
        write_series(folder, 4, description="cine SA", uid=uid, TriggerTime=str(40 * phase))
    write_series(tmp_path / "exam", 11, description="chest", Modality="CT")
    return tmp_path / "exam"


def test_several_series_are_listed_with_number_description_slices_and_spacing(examination):
    with pytest.raises(DataError) as caught:
        read_dicom(examination)
    assert str(caught.value).splitlines() == [
        f"{examination}: holds 3 series; choose one by its number with --series "
        "(series= in Python):",
        '  series 4 "cine SA", 6 slices, cannot be read: it holds 2 images at each of 6 positions, '
        "phases of the heart beat (a cine); expected one image per position",
        '  series 7 "whole heart", 6 slices, 0.90 x 1.10 x 2.50 mm',
        '  series 11 "chest", 6 slices, cannot be read: its images are of the modality CT, and '
        "heartseg reads MR",
    ]


def test_a_series_is_chosen_by_its_number(examination):
    np.testing.assert_array_equal(read_dicom(examination, series=7).voxels, VOXELS)
    with pytest.raises(DataError, match='series 4 "cine SA": it holds 2 images at each'):
        read_dicom(examination, series=4)
    with pytest.raises(DataError, match=r"holds no series 8; it holds:\n  series 4 .*\n  series 7"):
        read_dicom(examination, series=8)


def test_the_only_series_needs_no_number_but_may_have_one(tmp_path):
    write_series(tmp_path, 7)
    assert choose_series(tmp_path).number == choose_series(tmp_path, 7).number == 7
    with pytest.raises(DataError, match="holds no series 3"):
        choose_series(tmp_path, 3)


@pytest.mark.parametrize("numbers", [(5, 5), (5, None)])
def test_numbers_that_are_not_unique_or_missing_become_places_in_the_list(tmp_path, numbers):
    for place, number in enumerate(numbers):
        write_series(tmp_path / f"{place}", number, description=f"number {place}")
    found = find_series(tmp_path)
    assert [(series.number, series.description) for series in found] == [
        (1, "number 0"),
        (2, "number 1"),
    ]
    assert choose_series(tmp_path, 2).description == "number 1"


def test_objects_that_are_no_images_are_left_out(tmp_path):
    write_series(tmp_path, 7)
    for modality in ("SR", "PR", "SEG", "KO"):
        other = make_base("1.2.840.10008.5.1.4.1.1.88.33", Modality=modality, SeriesNumber=9)
        other.SeriesInstanceUID = pydicom.uid.generate_uid()
        if modality == "SEG":
            set_pixels(other, np.zeros((2, 10, 12), np.uint16))
        save(other, tmp_path / f"{modality}.dcm")
    (tmp_path / "notes.txt").write_text("DICM is not here")
    (tmp_path / "empty").touch()
    (tmp_path / "zeros").write_bytes(bytes(500))
    assert [series.number for series in find_series(tmp_path)] == [7]


def test_copies_of_a_file_count_once(tmp_path):
    folder = write_series(tmp_path, 7)
    for file in list(folder.iterdir())[:3]:
        (folder / f"{file.name} (1)").write_bytes(file.read_bytes())
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, VOXELS)


def test_the_same_object_with_other_content_is_no_copy(tmp_path):
    folder = write_series(tmp_path, 7)
    file = next(folder.iterdir())
    content = file.read_bytes()
    (folder / "other").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="up to 2 images at 1 of 6 positions, copies or repet"):
        read_dicom(tmp_path)


def test_a_folder_or_file_without_dicom_is_refused(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"text")
    for path in (tmp_path, tmp_path / "a.dcm"):
        with pytest.raises(DataError, match=f"^{path}: holds no DICOM images$"):
            read_dicom(path)
    with pytest.raises(DataError, match="none: no such file or folder"):
        read_dicom(tmp_path / "none")


@pytest.mark.parametrize("keep", [133, 150, 300, 500, 700])
def test_a_broken_file_is_refused_where_it_may_belong_to_the_series(tmp_path, keep):
    folder = write_series(tmp_path, 7)
    file = sorted(folder.iterdir())[5]
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match="1 of its DICOM files cannot be read") as caught:
        read_dicom(tmp_path)
    assert "slices may be missing, so copy them again" in str(caught.value)


def test_a_broken_file_among_several_series_is_a_notice(tmp_path, caplog):
    write_series(tmp_path, 7)
    write_series(tmp_path, 8)
    file = save(make_enhanced(VOXELS, AFFINE), tmp_path / "JANE.dcm")
    file.write_bytes(file.read_bytes()[:600])
    np.testing.assert_array_equal(read_dicom(tmp_path, series=7).voxels, VOXELS)
    assert "1 of its DICOM files cannot be read" in caplog.text
    assert "JANE" not in caplog.text


def test_hidden_files_and_pipes_are_left_alone(tmp_path):
    folder = write_series(tmp_path, 7)
    (folder / "._IM0003").write_bytes(b"DICM" * 60)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_bytes(next(folder.glob("IM*")).read_bytes()[:300])
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        (folder / "loop").symlink_to(folder)
    np.testing.assert_array_equal(read_dicom(tmp_path).voxels, VOXELS)


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    folder = write_series(tmp_path, 7)
    monkeypatch.setattr(dicom_files, "MAX_FILES", 5)
    archive = write_archive(tmp_path / "a.zip", folder)
    for path in (folder, archive):
        with pytest.raises(DataError, match=f"^{path}: holds more than 5 files; name the folder"):
            read_dicom(path)


def test_a_description_is_one_printable_line(tmp_path):
    with pydicom.config.disable_value_validation():
        write_series(tmp_path, 7, description="cor\x1b[31m  heart \n " + "x" * 50)
    (series,) = find_series(tmp_path)
    assert series.description == ("cor [31m heart " + "x" * 50)[:64]


@pytest.mark.parametrize("secret", ["Heart of Jane", "id-4711 heart", "heart 20240229"])
def test_a_description_that_names_the_patient_is_withheld(tmp_path, secret):
    write_series(tmp_path, 7, description=secret)
    assert find_series(tmp_path)[0].description == "(description withheld: it names the patient)"


def test_no_name_identifier_or_date_reaches_a_message_or_a_log(tmp_path, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    texts = []
    # Values that pydicom itself would quote in warnings and errors.
    broken = {
        "SOPInstanceUID": "DOE^JANE",
        "PatientBirthDate": "DOE^JANE 19830214",
        "StudyTime": "DOE JANE",
        "SeriesNumber": None,
        "AcquisitionNumber": None,
    }
    for place, change in enumerate(({}, broken)):
        folder = tmp_path / f"{place}"
        with pydicom.config.disable_value_validation():
            for z, dataset in enumerate(make_classic(VOXELS, AFFINE)):
                for key, value in change.items():
                    setattr(dataset, key, value)
                if change:
                    dataset.SOPInstanceUID = f"DOE^JANE{z}"
                    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
                save(dataset, folder / f"DOE_JANE_{z}")
        for cut in (None, 900, 500, 300):
            if cut:
                file = folder / "DOE_JANE_3"
                file.write_bytes(file.read_bytes()[:cut])
            try:
                texts += [series.describe() for series in find_series(folder)]
                texts.append(repr(find_series(folder)))
                read_dicom(folder)
            except DataError as error:
                texts += [str(error), repr(error.__cause__), repr(error.__context__)]
    said = "\n".join([*texts, caplog.text]).replace("file='DOE_JANE", "")
    assert len(texts) >= 12
    assert not [secret for secret in SECRETS if secret in said]
    assert [w for w in recwarn if any(secret in str(w.message) for secret in SECRETS)] == []


def test_the_builders_do_hold_the_secrets():
    dataset = make_classic(VOXELS, AFFINE)[0]
    assert all(getattr(dataset, key) == value for key, value in IDENTITY.items())
    assert all(any(secret in value for value in IDENTITY.values()) for secret in SECRETS)


def test_a_zip_is_never_unpacked_to_disk_whatever_its_names(tmp_path):
    folder = write_series(tmp_path, 7)
    archive = tmp_path / "in" / "a.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        for number, file in enumerate(sorted(folder.iterdir())):
            packed.write(file, f"../../evil/{number}" if number else "/tmp/evil0")  # noqa: S108
    before = sorted(path for path in tmp_path.rglob("*"))
    np.testing.assert_array_equal(read_dicom(archive).voxels, VOXELS)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_zip_that_claims_too_much_is_refused(tmp_path):
    archive = write_archive(tmp_path / "a.zip", write_series(tmp_path, 7))
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
    archive.write_bytes(content)
    with pytest.raises(DataError, match="its files claim more than 4 GiB together; unpack"):
        read_dicom(archive)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_a_zip_bomb_takes_little_memory(tmp_path):
    dataset = make_enhanced(VOXELS, AFFINE)
    dataset.PixelData = bytes(2**26)
    save(dataset, tmp_path / "in" / "a.dcm")
    (tmp_path / "in" / "zeros").write_bytes(bytes(2**27))
    archive = write_archive(tmp_path / "bomb.zip", tmp_path / "in")
    assert archive.stat().st_size < 2**20
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from heartseg.scans.dicom import read_dicom\n"
        "print(read_dicom(Path(sys.argv[1])).voxels.shape)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, archive],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    shape, peak = ran.stdout.splitlines()
    assert shape == str(VOXELS.shape)
    assert int(peak) * 1024 < 4.5e8


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text" * 100])
def test_what_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: not a readable \.zip archive"):
        read_dicom(tmp_path / "a.zip")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = write_archive(tmp_path / "a.zip", write_series(tmp_path, 7))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: is encrypted; unpack it and name the folder"):
        read_dicom(archive)


def test_a_damaged_member_of_a_zip_is_a_broken_file(tmp_path):
    archive = write_archive(tmp_path / "a.zip", write_series(tmp_path, 7))
    content = bytearray(archive.read_bytes())
    content[600] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match="1 of its DICOM files cannot be read: broken"):
        read_dicom(archive)


def test_dicom_is_told_by_its_first_bytes(tmp_path):
    assert looks_like_dicom(bytes(128) + b"DICM")
    assert looks_like_dicom(b"\x08\x00\x05\x00" + bytes(200))
    assert not looks_like_dicom(bytes(400))
    assert not looks_like_dicom(b"\x08\x00\x05\x00")
    assert not holds_dicom(tmp_path)
    write_series(tmp_path / "a" / "b", 7)
    assert holds_dicom(tmp_path)


def test_without_pydicom_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_series(tmp_path, 7)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    dicom_files.unreadable.cache_clear()
    with pytest.raises(MissingPackageError, match=r"DICOM needs pydicom, .*'heartseg\[dicom\]'"):
        read_dicom(tmp_path)
