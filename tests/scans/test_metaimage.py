"""MetaImage files, written by ITK and by hand, and what is refused."""

import zlib

import numpy as np
import pytest
import SimpleITK
from builders import make_scan, rotate
from itk_images import write_itk

from heartseg.errors import DataError
from heartseg.scans.metaimage import read_metaimage

SCAN = make_scan()
VOXELS = np.arange(24, dtype=np.uint8).reshape(4, 3, 2, order="F")


def write(file, content=None, **fields):
    """Write 4 x 3 x 2 bytes; a value of None leaves a line out."""
    values = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "CompressedData": "False",
        "Offset": "10 20 30",
        "ElementSpacing": "2 3 5",
        "DimSize": "4 3 2",
        "ElementType": "MET_UCHAR",
        **fields,
    }
    name = values.pop("ElementDataFile", "LOCAL")
    lines = [f"{key} = {value}\n" for key, value in values.items() if value is not None]
    lines.append(f"ElementDataFile = {name}\n" if name else "")
    content = bytes(range(24)) if content is None else content
    file.write_bytes("".join(lines).encode() + content)
    return file


def check_error(file, problem):
    with pytest.raises(DataError, match=problem) as caught:
        read_metaimage(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("axes", ["PIR", "LPS", "RAS", "SRA"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_what_itk_writes_reads_the_same(tmp_path, axes, packed, suffix):
    scan = make_scan(axes=axes)
    affine = rotate(scan.affine)
    file = tmp_path / f"a{suffix}"
    write_itk(file, scan.image, affine, packed=packed)

    volume = read_metaimage(file)
    np.testing.assert_array_equal(volume.voxels, scan.image)
    # ITK writes six digits.
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_real_type_that_itk_writes_reads_the_same(tmp_path, dtype):
    voxels = SCAN.labels.astype(dtype)
    write_itk(tmp_path / "a.mha", voxels, SCAN.affine)
    volume = read_metaimage(tmp_path / "a.mha")
    assert volume.voxels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.voxels, voxels)


def test_a_header_by_hand_gives_the_position_of_every_voxel(tmp_path):
    volume = read_metaimage(write(tmp_path / "a.mha"))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    # Left and posterior are the negative right and anterior.
    expected = [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 5, 30], [0, 0, 0, 1]]
    np.testing.assert_array_equal(volume.affine, expected)


def test_older_names_of_keys_and_the_other_byte_order_read_the_same(tmp_path):
    content = VOXELS.astype(">i2").tobytes(order="F")
    names = {"Offset": None, "Position": "10 20 30", "Orientation": "0 1 0 1 0 0 0 0 1"}
    order = {"ElementType": "MET_SHORT", "BinaryDataByteOrderMSB": "True"}
    file = write(tmp_path / "a.mha", content, **names, **order)

    image, volume = SimpleITK.ReadImage(str(file)), read_metaimage(file)
    np.testing.assert_array_equal(volume.voxels, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    for index in ((0, 0, 0), (3, 1, 1)):
        right, anterior, superior = (volume.affine @ (*index, 1))[:3]
        assert image.TransformIndexToPhysicalPoint(index) == (-right, -anterior, superior)


def test_a_single_time_point_is_a_volume(tmp_path):
    fields = {"NDims": "4", "DimSize": "4 3 2 1", "ElementSpacing": "2 3 5 1"}
    file = write(tmp_path / "a.mha", **fields, Offset="10 20 30 0")
    np.testing.assert_array_equal(read_metaimage(file).voxels, VOXELS)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"NDims": "4", "DimSize": "4 3 1 2"},
            r"expected one 3D volume, found the shape \(4, 3, 1, 2\) with 1 values per voxel",
        ),
        ({"ElementNumberOfChannels": "3"}, "with 3 values per voxel"),
        ({"NDims": "2", "DimSize": "4 6"}, r"expected one 3D volume, found the shape \(4, 6\)"),
        ({"DimSize": "4 6"}, "expected 3 numbers in DimSize, found 2"),
        ({"DimSize": "4 0 2"}, r"expected a 3D volume, found the shape \(4, 0, 2\)"),
        ({"DimSize": "4 -3 2"}, r"expected a 3D volume, found the shape \(4, -3, 2\)"),
        ({"DimSize": "4 nan 2"}, "not a readable MetaImage file"),
        ({"DimSize": None}, "not a readable MetaImage file"),
        ({"DimSize": "30000 30000 30000"}, "which is too large"),
        ({"DimSize": "4 3 200"}, "truncated; the file is too short"),
        ({"ElementType": "MET_STRING"}, "not a readable MetaImage file"),
        ({"ElementSpacing": None}, "not a readable MetaImage file"),
        ({"ElementSpacing": "0 3 5"}, "is singular or not finite"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "is singular or not finite"),
        ({"TransformMatrix": "1 0 0"}, "expected 9 numbers in TransformMatrix, found 3"),
        ({"Offset": "0 inf 0"}, "is singular or not finite"),
        ({"BinaryData": "False"}, "expected binary voxels without a header of their own"),
        ({"HeaderSize": "-1"}, "expected binary voxels without a header of their own"),
        ({"CompressedData": "True"}, "not a readable MetaImage file"),
        ({"ElementDataFile": "/etc/passwd"}, "its voxels lie outside of its folder"),
        ({"ElementDataFile": "../a.raw"}, "its voxels lie outside of its folder"),
        ({"ElementDataFile": "LIST"}, "the file of its voxels, 'LIST', does not exist"),
        ({"ElementDataFile": None}, "it has no MetaImage header"),
    ],
)
def test_what_is_no_plain_volume_is_refused(tmp_path, fields, problem):
    check_error(write(tmp_path / "a.mha", **fields), problem)


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(9000), b"NDims = 3\n" * 2000, b"a=" * 9000]
)
def test_a_file_that_is_no_metaimage_is_refused(tmp_path, content):
    (tmp_path / "a.mha").write_bytes(content)
    check_error(tmp_path / "a.mha", "it has no MetaImage header")


def test_truncated_packed_voxels_are_refused(tmp_path):
    content = zlib.compress(bytes(range(24)))[:-12]
    check_error(write(tmp_path / "a.mha", content, CompressedData="True"), "are truncated")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    content = zlib.compress(bytes(range(24)) + bytes(2**28), level=1)
    file = write(tmp_path / "a.mha", content, CompressedData="True")
    np.testing.assert_array_equal(read_metaimage(file).voxels, VOXELS)


def test_a_missing_file_is_named(tmp_path):
    check_error(tmp_path / "none.mha", "no such file")
