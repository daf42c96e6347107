"""Voxels and geometry of DICOM series, against what was written and against dcm2niix."""

import itertools
from pathlib import Path

import highdicom.legacy
import nibabel
import numpy as np
import pydicom
import pytest
from builders import make_affine, rotate
from dicom_builders import (
    SECRETS,
    ds,
    item,
    make_classic,
    make_enhanced,
    save,
    sequence,
    set_pixels,
    write_archive,
    write_classic,
)
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from heartseg.errors import DataError
from heartseg.scans import dicom
from heartseg.scans.dicom import read_dicom, read_headers, read_series
from heartseg.scans.dicom_series import choose_series

SPACING = (0.9, 1.1, 2.5)
VOXELS = np.random.default_rng(0).integers(0, 4000, (13, 11, 7)).astype(np.uint16)
OBLIQUE = rotate(make_affine("LPS", SPACING))
SCRAMBLED = (3, 1, 0, 2, 6, 5, 4)


def check(path, voxels, affine):
    """Compare with what was written, whichever way the slices are stacked."""
    volume = read_dicom(path)
    turn = ornt_transform(io_orientation(affine), io_orientation(volume.affine))
    assert volume.voxels.dtype == np.float32
    np.testing.assert_array_equal(volume.voxels, apply_orientation(voxels, turn))
    np.testing.assert_allclose(
        volume.affine, affine @ inv_ornt_aff(turn, voxels.shape), rtol=0, atol=1e-4
    )
    np.testing.assert_array_equal(volume.header.get_best_affine(), volume.affine)
    return volume


def check_error(path, problem, series=None):
    with pytest.raises(DataError, match=problem) as caught:
        read_dicom(path, series=series)
    assert str(caught.value).startswith(f"{path}: ")
    assert not any(secret in str(caught.value) for secret in SECRETS)


@pytest.mark.parametrize("axes", ["LPS", "PIL", "LIP", "LPI", "SRA", "RAI"])
def test_slices_are_sorted_by_their_position_in_any_orientation(tmp_path, axes):
    affine = rotate(make_affine(axes, SPACING))
    check(write_classic(tmp_path / "a", VOXELS, affine), VOXELS, affine)


def test_the_spacing_of_slices_is_that_of_their_positions_not_their_thickness(tmp_path):
    folder = write_classic(tmp_path / "a", VOXELS, OBLIQUE)
    assert pydicom.dcmread(next(folder.iterdir())).SliceThickness == 9.5
    np.testing.assert_allclose(read_dicom(folder).spacing_mm, SPACING, rtol=1e-6)


def test_negative_values_keep_their_sign(tmp_path):
    voxels = VOXELS.astype(np.int16) - 2000
    check(write_classic(tmp_path / "a", voxels, OBLIQUE), voxels, OBLIQUE)


def test_slope_and_intercept_are_those_of_each_slice(tmp_path):
    for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
        dataset.RescaleSlope, dataset.RescaleIntercept = str(0.5 + z / 4), str(-z)
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    z = np.arange(VOXELS.shape[2])
    check(tmp_path / "a", (VOXELS * (0.5 + z / 4) - z).astype(np.float32), OBLIQUE)


@pytest.mark.parametrize("order", [range(7), range(6, -1, -1), SCRAMBLED])
@pytest.mark.parametrize("shared", [True, False])
def test_frames_of_a_multi_frame_file_are_sorted_by_their_position(tmp_path, order, shared):
    dataset = make_enhanced(VOXELS, OBLIQUE, order=order, shared_orientation=shared)
    check(save(dataset, tmp_path / "a.dcm"), VOXELS, OBLIQUE)


def test_each_frame_has_its_own_scaling(tmp_path):
    scaling = [(1 + z / 8, -3 * z) for z in range(7)]
    file = save(make_enhanced(VOXELS, OBLIQUE, order=SCRAMBLED, scaling=scaling), tmp_path / "a")
    slope, intercept = np.array(scaling).T
    check(file.parent, (VOXELS * slope + intercept).astype(np.float32), OBLIQUE)


def test_without_rescaling_the_mapping_to_real_values_counts(tmp_path):
    dataset = make_enhanced(VOXELS, OBLIQUE)
    mapping = {"RealWorldValueSlope": 0.5, "RealWorldValueIntercept": 7.0}
    dataset.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = sequence(**mapping)
    check(save(dataset, tmp_path / "a.dcm"), (VOXELS * 0.5 + 7).astype(np.float32), OBLIQUE)


def add_philips_slope(dataset, slope):
    block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
    block.add_new(0x0E, "FL", slope)


def test_philips_slices_are_read_in_measured_values(tmp_path):
    # Chenevert 2014: measured = (stored x slope + intercept) / (slope x scale slope).
    for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
        dataset.RescaleSlope, dataset.RescaleIntercept = "2.5", "-3"
        add_philips_slope(dataset, 0.25)
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    check(tmp_path / "a", ((VOXELS * 2.5 - 3) / (2.5 * 0.25)).astype(np.float32), OBLIQUE)


def test_philips_frames_are_read_in_measured_values(tmp_path):
    dataset = make_enhanced(VOXELS, OBLIQUE, scaling=[(2.5, 0)] * 7)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        own = item()
        add_philips_slope(own, 0.5)
        block = group.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
        block.add_new(0x0F, "SQ", Sequence([own]))
    check(save(dataset, tmp_path / "a.dcm"), VOXELS / np.float32(0.5), OBLIQUE)


def test_a_multi_frame_series_in_several_files_is_one_volume(tmp_path):
    for part in (slice(0, 3), slice(3, 7)):
        affine = OBLIQUE.copy()
        affine[:3, 3] += part.start * OBLIQUE[:3, 2]
        save(make_enhanced(VOXELS[:, :, part], affine), tmp_path / f"a/{part.start}.dcm")
    check(tmp_path / "a", VOXELS, OBLIQUE)


def test_a_zip_reads_as_its_folder(tmp_path):
    folder = write_classic(tmp_path / "a" / "DICOM" / "SE01", VOXELS, OBLIQUE)
    (folder / "README").write_text("no DICOM")
    check(write_archive(tmp_path / "a.zip", tmp_path / "a"), VOXELS, OBLIQUE)
    check(tmp_path / "a", VOXELS, OBLIQUE)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_other_encodings_read_the_same(tmp_path, syntax):
    for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
        if syntax is RLELossless:
            dataset.compress(RLELossless)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        if syntax is ExplicitVRBigEndian:
            dataset.PixelData = VOXELS[:, :, z].T.astype(">u2").tobytes()
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    check(tmp_path / "a", VOXELS, OBLIQUE)


def test_jpeg_ls_and_jpeg_2000_are_decoded(tmp_path):
    for name, syntax in (("ls", JPEGLSLossless), ("2000", JPEG2000Lossless)):
        for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
            if name == "ls":
                dataset.compress(JPEGLSLossless)
            else:
                dataset.PixelData = encapsulate([encode_jpeg_2000(VOXELS[:, :, z].T)])
                dataset.file_meta.TransferSyntaxUID = syntax
            save(dataset, tmp_path / name / f"{z}.dcm")
        check(tmp_path / name, VOXELS, OBLIQUE)


def encode_jpeg_2000(pixels):
    import io

    from PIL import Image

    content = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(content, "JPEG2000", irreversible=False, no_jp2=True)
    return content.getvalue()


def test_a_compression_without_a_decoder_is_named_with_its_remedy(tmp_path):
    for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    check_error(
        tmp_path / "a",
        r'series 3 "whole heart": its images are compressed \(JPEG Lossless.*python-gdcm',
    )


def test_a_deflated_file_is_refused_before_it_is_unpacked(tmp_path):
    dataset = make_enhanced(VOXELS, OBLIQUE)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file = save(dataset, tmp_path / "a.dcm")
    check_error(file, "1 of its DICOM files cannot be read: broken, truncated, deflated or larger")


def test_files_without_the_magic_word_are_dicom_too(tmp_path):
    folder = write_classic(tmp_path / "a", VOXELS, OBLIQUE)
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        bare = pydicom.Dataset({element.tag: element for element in dataset})
        bare.save_as(file, implicit_vr=True, little_endian=True)
    check(folder, VOXELS, OBLIQUE)


def test_truncated_voxels_are_refused_with_the_series_and_the_slice(tmp_path):
    folder = write_classic(tmp_path / "a", VOXELS, OBLIQUE)
    file = sorted(folder.iterdir())[2]
    file.write_bytes(file.read_bytes()[:-60])
    check_error(
        folder, r'series 3 "whole heart": the voxels of slice \d of 7 cannot be read \(broken'
    )


def test_values_that_are_not_finite_count_as_zero(tmp_path, caplog):
    scaling = [(1, 0)] * 6 + [(1e35, 0)]
    file = save(make_enhanced(VOXELS + 1, OBLIQUE, scaling=scaling), tmp_path / "a.dcm")
    volume = read_dicom(file)
    np.testing.assert_array_equal(volume.voxels[:, :, 6], 0)
    assert (
        f'{file}: series 3 "whole heart": voxels that are not finite are set to 0: 143 of 1001'
        in caplog.text
    )


@pytest.mark.parametrize("slope", [b"0.0 ", b"nan ", b"-inf", b"abc "])
def test_a_broken_scaling_is_refused(tmp_path, slope):
    file = save(make_enhanced(VOXELS, OBLIQUE, scaling=[(2, 0)] * 7), tmp_path / "a.dcm")
    written = file.read_bytes()
    assert written.count(b"DS\x04\x002.0 ") == 7
    file.write_bytes(written.replace(b"DS\x04\x002.0 ", b"DS\x04\x00" + slope))
    check_error(file, r"the scaling of its values \(slope and intercept\) is broken")


@pytest.mark.parametrize(
    ("rows", "columns", "frames"), [(30000, 30000, 7), (65535, 65535, 7), (8192, 8192, 7)]
)
def test_unexpectedly_large_images_are_refused_before_they_take_memory(
    tmp_path, rows, columns, frames
):
    dataset = make_enhanced(VOXELS, OBLIQUE)
    dataset.Rows, dataset.Columns = rows, columns
    check_error(save(dataset, tmp_path / "a.dcm"), "which is too large")


def test_a_claim_of_more_frames_than_are_described_is_refused(tmp_path):
    dataset = make_enhanced(VOXELS, OBLIQUE)
    dataset.NumberOfFrames = 2_000_000_000
    check_error(
        save(dataset, tmp_path / "a.dcm"),
        "claims 2000000000 frames and describes the position of 7",
    )


def test_a_volume_of_8_bits_reads_too(tmp_path):
    for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        pixels = (VOXELS[:, :, z].T % 251).astype(np.uint8)
        dataset.PixelData = pixels.tobytes() + b"\0"  # 143 bytes, and DICOM wants an even number
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    check(tmp_path / "a", VOXELS % 251, OBLIQUE)


def test_values_beyond_the_stored_bits_are_cut_off(tmp_path):
    # Old scanners drew overlays into the unused bits.
    for z, dataset in enumerate(make_classic(VOXELS, OBLIQUE)):
        pixels = np.ascontiguousarray((VOXELS[:, :, z] | 0x8000).T)
        set_pixels(dataset, pixels)
        dataset.BitsStored, dataset.HighBit = 12, 11
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    check(tmp_path / "a", VOXELS, OBLIQUE)


def test_a_series_that_vanishes_between_listing_and_reading_is_an_error_of_ours(tmp_path):
    folder = write_classic(tmp_path / "a", VOXELS, OBLIQUE)
    series = choose_series(folder)
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"the voxels of slice \d of 7 cannot be read"):
        read_series(series)
    with pytest.raises(DataError, match="its files can no longer be read"):
        read_headers(series)


def test_whole_headers_come_in_the_order_of_the_slices(tmp_path):
    folder = write_classic(tmp_path / "a", VOXELS, OBLIQUE)
    headers = read_headers(choose_series(folder))
    assert [header.InstanceNumber for header in headers] == list(range(1, 8))
    assert headers[0].PatientName == "DOE^JANE"
    assert "PixelData" not in headers[0]


def test_a_decoder_that_may_end_the_process_is_the_last_choice(monkeypatch):
    class Decoder:
        is_available = True
        available_plugins = ("gdcm", "pillow")

    monkeypatch.setattr("pydicom.pixels.get_decoder", lambda _syntax: Decoder)
    assert dicom._choose_decoder(JPEG2000Lossless) == "pillow"
    Decoder.available_plugins = ("gdcm",)
    assert dicom._choose_decoder(JPEG2000Lossless) == "gdcm"


@pytest.mark.parametrize("name", ["siemens_t1_sagittal", "ge_axial"])
def test_real_series_agree_with_dcm2niix(dicom_data, name):
    volume = read_dicom(dicom_data / name)
    reference = nibabel.load(dicom_data / f"{name}.nii.gz")

    turn = ornt_transform(io_orientation(reference.affine), io_orientation(volume.affine))
    voxels = apply_orientation(np.asarray(reference.dataobj), turn)
    affine = reference.affine @ inv_ornt_aff(turn, reference.shape)
    np.testing.assert_array_equal(volume.voxels, voxels)
    sides = [(0, size - 1) for size in volume.voxels.shape]
    corners = np.array([(*corner, 1) for corner in itertools.product(*sides)]).T
    assert np.abs((volume.affine - affine) @ corners).max() < 0.01


@pytest.mark.parametrize("kind", ["classic", "multi-frame"])
def test_a_real_heart_comes_back_from_dicom_as_it_was(hvsmr2, tmp_path, kind):
    image = nibabel.load(hvsmr2 / "cropped_norm" / "pat58_cropped_norm.nii.gz")
    values = np.asarray(image.dataobj)
    stored = np.rint(values * 20000).astype(np.uint16)
    scaling = {"RescaleSlope": ds(5e-5)[0], "RescaleIntercept": "0"}
    if kind == "classic":
        write_classic(tmp_path / "a", stored, image.affine, **scaling)
    else:
        dataset = make_enhanced(stored, image.affine, scaling=[(5e-5, 0)] * stored.shape[2])
        save(dataset, Path(tmp_path, "a", "heart.dcm"))

    volume = check(tmp_path / "a", (stored * 5e-5).astype(np.float32), image.affine)
    turn = ornt_transform(io_orientation(image.affine), io_orientation(volume.affine))
    assert np.abs(volume.voxels - apply_orientation(values, turn)).max() < 2.6e-5


@pytest.mark.parametrize("name", ["siemens_t1_sagittal", "ge_axial"])
def test_a_real_series_that_highdicom_makes_multi_frame_reads_the_same(dicom_data, tmp_path, name):
    images = [pydicom.dcmread(file) for file in sorted((dicom_data / name).iterdir())]
    converted = highdicom.legacy.LegacyConvertedEnhancedMRImage(
        images,
        series_instance_uid=highdicom.UID(),
        series_number=5,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
    )
    converted.save_as(tmp_path / "a.dcm")

    single, multiple = read_dicom(dicom_data / name), read_dicom(tmp_path / "a.dcm")
    np.testing.assert_array_equal(multiple.voxels, single.voxels)
    np.testing.assert_allclose(multiple.affine, single.affine, rtol=0, atol=1e-6)
