import gzip
import logging
import re
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders import SHAPE, SPACING_MM, make_affine, make_scan, rotate, write_nifti

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.scans.volume import (
    check_same_grid,
    is_nifti,
    read_image,
    read_label_map,
    spacing_of,
    write_image,
    write_label_map,
)

SCAN = make_scan()
DIM, DATATYPE, PIXDIM, VOX_OFFSET, SROW_X = 40, 70, 76, 108, 280


def nifti_bytes(voxels=SCAN.image, affine=SCAN.affine):
    return bytearray(nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype).to_bytes())


def check_error(file, problem, read=read_image):
    with pytest.raises(DataError, match=problem) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def read_labels(file):
    return read_label_map(file, HVSMR)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_image_keeps_values_and_geometry(tmp_path, suffix):
    affine = rotate(SCAN.affine)
    volume = read_image(write_nifti(tmp_path / f"a{suffix}", SCAN.image, affine))

    assert volume.voxels.dtype == np.float32
    assert volume.voxels.shape == SHAPE
    np.testing.assert_array_equal(volume.voxels, SCAN.image.astype(np.float32))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_real_type_and_byte_order_reads_the_same(tmp_path, dtype, order):
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 9
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(order + dtype))
    image = nibabel.Nifti1Image(values.astype(order + dtype), SCAN.affine, header)
    nibabel.save(image, tmp_path / "a.nii.gz")

    volume = read_image(tmp_path / "a.nii.gz")
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, values)
    labels = read_labels(tmp_path / "a.nii.gz")
    assert labels.voxels.dtype == np.uint8
    np.testing.assert_array_equal(labels.voxels, values)


def test_slope_and_intercept_are_applied(tmp_path):
    content = nifti_bytes(np.full(SHAPE, -3, np.int8))
    content[112:120] = struct.pack("<2f", 0.5, 10)
    (tmp_path / "a.nii").write_bytes(content)
    assert np.unique(read_image(tmp_path / "a.nii").voxels) == [8.5]


def test_a_slope_that_makes_labels_fractions_is_refused(tmp_path):
    content = nifti_bytes(np.full(SHAPE, 3, np.int8))
    content[112:120] = struct.pack("<2f", 0.5, 0)
    (tmp_path / "a.nii").write_bytes(content)
    check_error(tmp_path / "a.nii", r"found 1\.5; was the label map interpolated\?", read_labels)


def test_voxels_that_are_not_finite_become_0_with_a_warning(tmp_path, caplog):
    image = SCAN.image.copy()
    image[0, 0, :3] = np.nan, np.inf, 1e300
    file = write_nifti(tmp_path / "a.nii.gz", image, SCAN.affine)

    with caplog.at_level(logging.WARNING):
        voxels = read_image(file).voxels

    assert f"{file}: voxels that are not finite are set to 0: 3 of 1386" in caplog.text
    np.testing.assert_array_equal(voxels[0, 0, :3], 0)
    np.testing.assert_array_equal(voxels[1:], SCAN.image[1:].astype(np.float32))


def test_an_image_of_nan_alone_is_refused(tmp_path):
    file = write_nifti(tmp_path / "a.nii", np.full(SHAPE, np.nan), SCAN.affine)
    check_error(file, "expected finite intensities, found no finite voxel")


def test_whole_numbers_in_floating_point_are_labels(tmp_path):
    file = write_nifti(tmp_path / "a.nii", SCAN.labels.astype(np.float32), SCAN.affine)
    np.testing.assert_array_equal(read_labels(file).voxels, SCAN.labels)


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, -np.inf])
def test_labels_that_are_not_whole_numbers_are_refused(tmp_path, value):
    labels = SCAN.labels.astype(np.float32)
    labels[3, 4, 5] = value
    file = write_nifti(tmp_path / "a.nii", labels, SCAN.affine)
    check_error(file, f"expected whole numbers as labels, found {value}", read_labels)


@pytest.mark.parametrize("value", [9, -1, 255, 256])
def test_a_label_that_is_not_in_the_table_is_refused(tmp_path, value):
    labels = SCAN.labels.copy()
    labels[3, 4, 5] = value
    file = write_nifti(tmp_path / "a.nii", labels, SCAN.affine)
    check_error(file, rf"expected label values 0 to 8, found {value}$", read_labels)


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros(SHAPE, np.complex64),
        np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]),
        np.zeros(SHAPE, np.complex128),
    ],
    ids=["complex", "RGB", "complex128"],
)
@pytest.mark.parametrize("read", [read_image, read_labels])
def test_voxels_that_are_not_real_numbers_are_refused(tmp_path, voxels, read):
    file = write_nifti(tmp_path / "a.nii.gz", voxels, SCAN.affine)
    check_error(file, "expected real numbers of at most 64 bits", read)


def test_floats_of_128_bits_are_refused(tmp_path):
    content = nifti_bytes()
    content[DATATYPE : DATATYPE + 4] = struct.pack("<2h", 1536, 128)
    (tmp_path / "a.nii").write_bytes(content)
    check_error(tmp_path / "a.nii", "not supported|expected real numbers of at most 64 bits")


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 2), (4,), (4, 5, 6, 1, 3)])
def test_anything_but_three_axes_is_refused(tmp_path, shape):
    file = write_nifti(tmp_path / "a.nii", np.zeros(shape, np.float32), SCAN.affine)
    check_error(file, r"expected a 3D volume, found the shape \(4,")


@pytest.mark.parametrize("sizes", [(0, 5, 6), (4, 5, 0), (4, -5, 6)])
def test_a_side_without_voxels_is_refused(tmp_path, sizes):
    content = nifti_bytes()
    content[DIM : DIM + 8] = struct.pack("<4h", 3, *sizes)
    (tmp_path / "a.nii").write_bytes(content)
    check_error(tmp_path / "a.nii", "expected a 3D volume, found the shape|not a readable NIfTI")


def test_a_single_voxel_is_a_volume(tmp_path):
    file = write_nifti(tmp_path / "a.nii", np.ones((1, 1, 1), np.float32), SCAN.affine)
    assert read_image(file).voxels.shape == (1, 1, 1)


@pytest.mark.parametrize("sizes", [(30000, 30000, 30000), (32767, 32767, 1), (600, 600, 600)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_claims_too_much_is_refused(tmp_path, sizes, suffix):
    content = nifti_bytes()
    content[DIM : DIM + 8] = struct.pack("<4h", 3, *sizes)
    file = tmp_path / f"a{suffix}"
    file.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    check_error(
        file,
        r"the header claims \(.*\) voxels of float64, which is too large "
        r"\(at most 134,217,728 voxels and 536,870,912 bytes are read\)",
    )


def test_a_header_that_claims_more_voxels_than_the_file_holds_takes_no_memory(tmp_path):
    content = nifti_bytes()
    content[DIM : DIM + 8] = struct.pack("<4h", 3, 512, 512, 256)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    check_error(
        tmp_path / "a.nii.gz",
        r"truncated; the file is too short for the \(512, 512, 256\) voxels it claims",
    )


@pytest.mark.parametrize("offset", [1e12, -1, 2**25])
def test_an_impossible_offset_of_the_voxels_is_refused(tmp_path, offset):
    content = nifti_bytes()
    content[VOX_OFFSET : VOX_OFFSET + 4] = struct.pack("<f", offset)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    check_error(tmp_path / "a.nii.gz", "not a readable NIfTI file")


def test_an_extension_longer_than_the_header_is_refused(tmp_path):
    content = nifti_bytes()[:348] + bytes([1, 0, 0, 0]) + struct.pack("<2i", 2**31 - 16, 6)
    content[VOX_OFFSET : VOX_OFFSET + 4] = struct.pack("<f", 384)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content + bytes(2**22)))
    check_error(tmp_path / "a.nii.gz", "failed to read extension content")


@pytest.mark.parametrize(
    "row",
    [(0, 0, 0, 0), (np.nan, 0, 0, 0), (np.inf, 0, 0, 0), (0, 0, -1.1, np.nan)],
    ids=["singular", "NaN", "infinite", "NaN origin"],
)
def test_an_affine_that_is_singular_or_not_finite_is_refused(tmp_path, row):
    content = nifti_bytes()
    content[SROW_X : SROW_X + 16] = struct.pack("<4f", *row)
    content[254:256] = struct.pack("<h", 1)  # sform_code
    (tmp_path / "a.nii").write_bytes(content)
    check_error(tmp_path / "a.nii", "the affine .* is singular or not finite")


@pytest.mark.parametrize("step", [1e4, 1e-9, 1e-100])
def test_voxels_of_an_impossible_size_are_refused(tmp_path, step):
    image = nibabel.Nifti2Image(SCAN.image, make_affine(spacing_mm=(step, 1, 1)))
    nibabel.save(image, tmp_path / "a.nii")
    expected = rf"claims a spacing of {step:.6g} x 1 x 1 mm, expected 1e-06 to 1000 mm"
    check_error(tmp_path / "a.nii", f"{re.escape(expected)}|singular")


@pytest.mark.parametrize("sign", [-1, np.nan, 0])
def test_an_invalid_pixdim_gives_an_error_or_a_positive_spacing(tmp_path, sign):
    content = nifti_bytes()
    content[252:256] = struct.pack("<2h", 0, 0)  # neither qform nor sform: pixdim counts
    content[PIXDIM + 4 : PIXDIM + 8] = struct.pack("<f", sign * 0.8)
    (tmp_path / "a.nii").write_bytes(content)
    if np.isnan(sign):
        check_error(tmp_path / "a.nii", "is singular or not finite")
    else:
        assert read_image(tmp_path / "a.nii").spacing_mm[0] == pytest.approx(0.8 if sign else 1)


@pytest.mark.parametrize("keep", [0, 10, 200, 348, 352, 400, -1, -8])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, keep, suffix):
    content = bytes(nifti_bytes())
    content = gzip.compress(content, mtime=0) if suffix.endswith("gz") else content
    (tmp_path / f"a{suffix}").write_bytes(content[:keep])
    check_error(tmp_path / f"a{suffix}", "not a readable NIfTI|broken|truncated")


def test_a_gzip_whose_checksum_is_wrong_is_refused(tmp_path):
    content = bytearray(gzip.compress(bytes(nifti_bytes())))
    content[-8] ^= 0xFF
    (tmp_path / "a.nii.gz").write_bytes(content)
    check_error(tmp_path / "a.nii.gz", "not a readable NIfTI file")


def test_a_doubled_gzip_reads_as_its_first_copy(tmp_path):
    file = write_nifti(tmp_path / "a.nii.gz", SCAN.image, SCAN.affine)
    file.write_bytes(file.read_bytes() * 2)
    np.testing.assert_array_equal(read_image(file).voxels, SCAN.image.astype(np.float32))


@pytest.mark.parametrize("content", [b"", b"text", bytes(400), b"\x1f\x8b" + bytes(50)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_that_is_not_nifti_is_refused(tmp_path, content, suffix):
    (tmp_path / f"a{suffix}").write_bytes(content)
    check_error(tmp_path / f"a{suffix}", "not a readable NIfTI file")


def test_other_formats_with_the_suffix_of_nifti_are_refused(tmp_path):
    nibabel.save(nibabel.MGHImage(SCAN.image.astype(np.float32), SCAN.affine), tmp_path / "a.mgz")
    (tmp_path / "a.mgz").rename(tmp_path / "a.nii.gz")
    check_error(tmp_path / "a.nii.gz", "not a readable NIfTI file")
    header = nifti_bytes()
    header[344:348] = b"ni1\0"  # the header of a pair .hdr + .img
    (tmp_path / "b.nii").write_bytes(header)
    check_error(tmp_path / "b.nii", r"header of a .hdr and .img pair, expected a single file")


def test_missing_files_folders_and_other_suffixes_are_named(tmp_path):
    check_error(tmp_path / "none.nii", "no such file")
    (tmp_path / "folder.nii").mkdir()
    check_error(tmp_path / "folder.nii", "expected a file, found a folder")
    (tmp_path / "a.mha").touch()
    check_error(tmp_path / "a.mha", r"expected a NIfTI file \(\.nii or \.nii\.gz\)")


def test_a_volume_is_recognised_by_its_name():
    names = ["a.nii", "a.NII.GZ", "a.nii.gz.part", "a.png", "nii"]
    assert [is_nifti(Path(name)) for name in names] == [True, True, False, False, False]


def test_grids_that_differ_are_refused_with_both_names(tmp_path):
    image = read_image(write_nifti(tmp_path / "a.nii", SCAN.image, SCAN.affine))
    smaller = read_image(write_nifti(tmp_path / "b.nii", SCAN.image[1:], SCAN.affine))
    moved = read_image(write_nifti(tmp_path / "c.nii", SCAN.image, SCAN.affine + 1e-3))
    rounded = read_image(write_nifti(tmp_path / "d.nii", SCAN.image, SCAN.affine + 1e-6))

    check_same_grid(image, rounded, names=("a", "d"))
    with pytest.raises(DataError, match=r"^a: shape \(14, 11, 9\) differs .*\(13, 11, 9\) of b"):
        check_same_grid(image, smaller, names=("a", "b"))
    with pytest.raises(DataError, match=r"^a: lies up to 0\.058\d* mm away from c: aff") as caught:
        check_same_grid(image, moved, names=("a", "c"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint8, np.float32])
def test_a_written_image_reads_back_with_its_type(tmp_path, dtype):
    affine = rotate(SCAN.affine)
    voxels = (SCAN.image * 100).astype(dtype)
    write_image(tmp_path / "a.nii.gz", voxels, affine=affine, codes=(2, 1))

    image = nibabel.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj), voxels)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert (image.header["qform_code"], image.header["sform_code"]) == (2, 1)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_equal_volumes_give_equal_bytes(tmp_path):
    for name in ("a.nii.gz", "other.nii.gz"):
        write_image(tmp_path / name, SCAN.image, affine=SCAN.affine)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "other.nii.gz").read_bytes()


@pytest.mark.parametrize("codes", [(1, 1), (0, 2), (4, 3), (1, 0)])
@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_label_map_lies_on_the_grid_of_its_image(tmp_path, codes, image_class):
    source = image_class(SCAN.image, None)
    source.set_qform(rotate(SCAN.affine), code=codes[0])
    source.set_sform(rotate(SCAN.affine), code=codes[1])
    source.header.set_xyzt_units("mm")
    nibabel.save(source, tmp_path / "a.nii.gz")
    like = read_image(tmp_path / "a.nii.gz")
    header_before = like.header.binaryblock
    labels = SCAN.labels.astype(np.uint8)

    write_label_map(tmp_path / "a_seg.nii.gz", labels, like=like, table=HVSMR)

    written, source = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("a_seg", "a"))
    assert type(written) is image_class
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
    np.testing.assert_array_equal(written.affine, source.affine)
    for key in ("qform_code", "sform_code", "srow_x", "quatern_b", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(written.header[key], source.header[key], err_msg=key)
    text = b"".join(extension.get_content() for extension in written.header.extensions)
    assert b"1 LV left ventricle" in text
    assert b"8 IVC inferior vena cava" in text
    assert like.header.binaryblock == header_before
    np.testing.assert_array_equal(read_labels(tmp_path / "a_seg.nii.gz").voxels, labels)


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_texts_of_the_source_do_not_go_into_a_label_map(tmp_path, image_class):
    source = image_class(SCAN.image, SCAN.affine)
    texts = [key for key in source.header if source.header[key].dtype.itemsize > 8]
    texts = [key for key in texts if source.header[key].dtype.kind == "S"]
    for key in texts:
        source.header[key] = b"DOE^JANE"
    source.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"DOE^JANE"))
    nibabel.save(source, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes().count(b"DOE^JANE") == len(texts) + 1

    like = read_image(tmp_path / "a.nii")
    labels = SCAN.labels.astype(np.uint8)
    write_label_map(tmp_path / "a_seg.nii", labels, like=like, table=HVSMR)
    assert b"DOE^JANE" not in (tmp_path / "a_seg.nii").read_bytes()


def test_a_label_map_of_another_shape_is_refused(tmp_path):
    like = read_image(write_nifti(tmp_path / "a.nii", SCAN.image, SCAN.affine))
    with pytest.raises(ValueError, match="expected shape"):
        write_label_map(tmp_path / "b.nii", np.zeros((2, 2, 2), np.uint8), like=like, table=HVSMR)


def test_the_spacing_of_an_oblique_affine_is_that_of_its_columns():
    np.testing.assert_allclose(spacing_of(rotate(SCAN.affine)), SPACING_MM)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ((512, 512, 128), np.float64),  # 256 MB of zeros in 260 kB
        ((5, 6, 7), np.int16),  # the rest of the stream is never unpacked
    ],
)
def test_a_gzip_bomb_takes_less_than_2_gb(tmp_path, sizes, dtype):
    header = bytearray(nifti_bytes(np.zeros((1, 1, 1), dtype))[:352])
    header[DIM : DIM + 8] = struct.pack("<4h", 3, *sizes)
    zeros = gzip.compress(bytes(2**24))
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header) + zeros * 64)
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from heartseg.scans.volume import read_image\n"
        "print(read_image(Path(sys.argv[1])).voxels.shape)\n"
        # Not ru_maxrss: a child inherits that of the process that started it.
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "bomb.nii.gz"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    shape, peak = ran.stdout.splitlines()
    assert shape == str(sizes)
    assert int(peak) * 1024 < 2e9


def test_the_real_volumes_read_with_their_grid(hvsmr2):
    folder = hvsmr2 / "cropped_norm"
    image = read_image(folder / "pat4_cropped_norm.nii.gz")
    labels = read_label_map(folder / "pat4_cropped_seg.nii.gz", HVSMR)
    check_same_grid(image, labels, names=("image", "labels"))
    assert nibabel.aff2axcodes(image.affine) == ("P", "I", "R")
    assert np.unique(labels.voxels).tolist() == list(range(9))
