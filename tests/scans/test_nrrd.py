"""NRRD files, written by ITK and by hand, and what is refused."""

import bz2
import gzip

import nibabel
import numpy as np
import pytest
from builders import make_scan, rotate
from itk_images import write_itk

from heartseg.errors import DataError
from heartseg.scans.nrrd import MAX_TEXT_BYTES, read_nrrd, read_nrrd_with_fields

SCAN = make_scan()


def header(**fields):
    """Return the text of a header for 4 x 3 x 2 bytes; a value of None leaves a line out."""
    values = {
        "type": "unsigned char",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "4 3 2",
        "space directions": "(2,0,0) (0,3,0) (0,0,5)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(10,20,30)",
    } | {key.replace("_", " "): value for key, value in fields.items()}
    lines = [f"{key}: {value}" for key, value in values.items() if value is not None]
    return ("\n".join(["NRRD0004", *lines]) + "\n\n").encode()


FOUR_AXES = {"dimension": "4", "sizes": "2 4 3 1"}
VOXELS = np.arange(24, dtype=np.uint8).reshape(4, 3, 2, order="F")


def write(file, content=None, **fields):
    file.write_bytes(header(**fields) + (bytes(range(24)) if content is None else content))
    return file


def check_error(file, problem):
    with pytest.raises(DataError, match=problem) as caught:
        read_nrrd(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("axes", ["PIR", "LPS", "RAS", "SRA"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr"])
def test_what_itk_writes_reads_the_same(tmp_path, axes, packed, suffix):
    scan = make_scan(axes=axes)
    affine = rotate(scan.affine)
    file = tmp_path / f"a{suffix}"
    write_itk(file, scan.image, affine, packed=packed)

    volume = read_nrrd(file)
    np.testing.assert_array_equal(volume.voxels, scan.image)
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_real_type_that_itk_writes_reads_the_same(tmp_path, dtype):
    voxels = SCAN.labels.astype(dtype)
    write_itk(tmp_path / "a.nrrd", voxels, SCAN.affine)
    volume = read_nrrd(tmp_path / "a.nrrd")
    assert volume.voxels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.voxels, voxels)


def test_a_header_by_hand_gives_the_position_of_every_voxel(tmp_path):
    volume = read_nrrd(write(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    # Left and posterior are the negative right and anterior.
    expected = [[-2, 0, 0, -10], [0, -3, 0, -20], [0, 0, 5, 30], [0, 0, 0, 1]]
    np.testing.assert_array_equal(volume.affine, expected)
    assert volume.voxels.flags.writeable


@pytest.mark.parametrize(
    ("space", "codes"),
    [("right-anterior-superior", "RAS"), ("RAS", "RAS"), ("left-anterior-superior", "LAS")],
)
def test_other_spaces_run_their_own_way(tmp_path, space, codes):
    volume = read_nrrd(write(tmp_path / "a.nrrd", space=space))
    assert "".join(nibabel.aff2axcodes(volume.affine)) == codes


@pytest.mark.parametrize("order", ["little", "big"])
def test_both_byte_orders_read_the_same(tmp_path, order):
    content = VOXELS.astype(">i2" if order == "big" else "<i2").tobytes(order="F")
    file = write(tmp_path / "a.nrrd", content, type="short", endian=order)
    np.testing.assert_array_equal(read_nrrd(file).voxels, VOXELS)
    assert read_nrrd(file).voxels.dtype.isnative


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("bzip2", bz2.compress)])
def test_packed_voxels_read_the_same(tmp_path, encoding, pack):
    file = write(tmp_path / "a.nrrd", pack(bytes(range(24))), encoding=encoding)
    np.testing.assert_array_equal(read_nrrd(file).voxels, VOXELS)


def test_lines_may_end_as_on_windows(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(header().replace(b"\n", b"\r\n") + bytes(range(24)))
    np.testing.assert_array_equal(read_nrrd(tmp_path / "a.nrrd").voxels, VOXELS)


def test_an_axis_of_one_value_is_dropped(tmp_path):
    file = write(
        tmp_path / "a.nrrd",
        dimension="4",
        sizes="1 4 3 2",
        kinds="list domain domain domain",
        space_directions="none (2,0,0) (0,3,0) (0,0,5)",
    )
    np.testing.assert_array_equal(read_nrrd(file).voxels, VOXELS)


def test_texts_beside_the_fields_are_given_too(tmp_path):
    start = header().replace(b"\n\n", b"\nSegment0_Name:=left ventricle\n\n")
    (tmp_path / "a.nrrd").write_bytes(start + bytes(range(24)))
    _, fields = read_nrrd_with_fields(tmp_path / "a.nrrd")
    assert fields["Segment0_Name"] == "left ventricle"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {
                "dimension": "4",
                "sizes": "2 4 3 1",
                "space_directions": "none (2,0,0) (0,3,0) (0,0,5)",
            },
            r"expected one 3D volume, found the shape \(2, 4, 3, 1\) with several values or time",
        ),
        ({"dimension": "2", "sizes": "4 6"}, "its space directions do not fit its axes"),
        ({"sizes": "4 3"}, r"claims 3 axes of the sizes \(4, 3\)"),
        ({"sizes": "4 -3 2"}, r"claims 3 axes of the sizes \(4, -3, 2\)"),
        ({"sizes": "4 0 2"}, r"claims 3 axes of the sizes \(4, 0, 2\)"),
        ({"space": None}, "does not say how it lies in the patient; expected a space such as"),
        ({"space": "scanner-xyz"}, "does not say how it lies .* found the space 'scanner-xyz'"),
        ({"space_directions": None}, "does not say how it lies in the patient"),
        (
            {"space_directions": "(2,0,0) none (0,0,5)"},
            "expected a 3D volume, found 2 axes of space",
        ),
        ({"space_directions": "(2,0,0) (4,0,0) (0,0,5)"}, "is singular or not finite"),
        ({"space_directions": "(2e6,0,0) (0,3,0) (0,0,5)"}, "claims a spacing of 2e.06 x 3 x 5 mm"),
        ({"space_origin": "(nan,0,0)"}, "is singular or not finite"),
        ({"space_units": '"cm" "cm" "cm"'}, r"expected distances in mm, found .*'cm'"),
        ({"type": "block"}, "expected real numbers of at most 64 bits, found the type 'block'"),
        ({"type": None}, "not a readable NRRD file"),
        ({"encoding": "ascii"}, "expected raw, gzip or bzip2 voxels, found ascii"),
        ({"encoding": None}, "not a readable NRRD file"),
        ({"byte_skip": "5"}, "start behind a header of their own"),
        ({"type": "short", "endian": None}, "not a readable NRRD file"),
        ({"sizes": "30000 30000 30000"}, "which is too large"),
        ({"sizes": "4 3 200"}, "truncated; the file is too short"),
        ({"data_file": "/etc/passwd"}, "its voxels lie outside of its folder"),
        ({"data_file": "../a.raw"}, "its voxels lie outside of its folder"),
        ({"data_file": "none.raw"}, "the file of its voxels, 'none.raw', does not exist"),
    ],
)
def test_what_is_no_plain_volume_is_refused(tmp_path, fields, problem):
    check_error(write(tmp_path / "a.nrrd", **fields), problem)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(24))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.raw").symlink_to(tmp_path / "secret")
    check_error(write(tmp_path / "in" / "a.nhdr", b"", data_file="a.raw"), "outside of its folder")


@pytest.mark.parametrize("content", [b"", b"text", bytes(500), b"NRRD", b"NRRD0004\n\n"])
def test_a_file_that_is_no_nrrd_is_refused(tmp_path, content):
    (tmp_path / "a.nrrd").write_bytes(content)
    check_error(tmp_path / "a.nrrd", "not a readable NRRD file")


def test_a_header_that_does_not_end_is_refused(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n" + b"a" * (MAX_TEXT_BYTES + 10))
    check_error(tmp_path / "a.nrrd", "its header does not end")


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_truncated_voxels_are_refused(tmp_path, encoding):
    pack = {"raw": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[encoding]
    content = pack(bytes(range(24)))[:-3]
    check_error(write(tmp_path / "a.nrrd", content, encoding=encoding), "truncated|not a readable")


def test_a_wrong_checksum_is_refused(tmp_path):
    content = bytearray(gzip.compress(bytes(range(24))))
    content[-8] ^= 0xFF
    check_error(write(tmp_path / "a.nrrd", content, encoding="gzip"), "not a readable NRRD file")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    content = gzip.compress(bytes(range(24)) + bytes(2**28), compresslevel=1)
    file = write(tmp_path / "a.nrrd", content, encoding="gzip")
    np.testing.assert_array_equal(read_nrrd(file).voxels, VOXELS)


def test_a_missing_file_is_named(tmp_path):
    check_error(tmp_path / "none.nrrd", "no such file")
