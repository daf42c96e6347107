"""FreeSurfer's files, written by nibabel, and what is refused."""

import gzip

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_scan, rotate

from heartseg.errors import DataError
from heartseg.scans.mgh import read_mgh

SCAN = make_scan()
DIMS, GOOD_RAS = 4, 28


def write(file, voxels=None, affine=None):
    voxels = SCAN.labels if voxels is None else voxels
    nibabel.save(nibabel.MGHImage(voxels, SCAN.affine if affine is None else affine), file)
    return file


def change(file, at, value):
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[at : at + len(value)] = value
    file.write_bytes(gzip.compress(content))
    return file


def check_error(file, problem):
    with pytest.raises(DataError, match=problem) as caught:
        read_mgh(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("axes", ["PIR", "LPS", "RAS", "SRA"])
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_what_nibabel_writes_reads_the_same(tmp_path, axes, suffix, dtype):
    affine = rotate(make_affine(axes))
    file = write(tmp_path / f"a{suffix}", SCAN.labels.astype(dtype), affine)
    volume = read_mgh(file)
    assert volume.voxels.dtype == dtype
    np.testing.assert_array_equal(volume.voxels, SCAN.labels)
    np.testing.assert_allclose(volume.affine, affine, rtol=0, atol=1e-4)
    assert volume.voxels.flags.writeable


def test_several_frames_are_refused(tmp_path):
    file = write(tmp_path / "a.mgz", np.zeros((4, 5, 6, 2), np.float32))
    check_error(file, r"expected a 3D volume, found the shape \(4, 5, 6, 2\)")


def test_a_volume_without_a_position_is_refused(tmp_path):
    file = change(write(tmp_path / "a.mgz"), GOOD_RAS, b"\0\0")
    check_error(file, "does not say how it lies in the patient")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"\x00\x00\x75\x30" * 3, "which is too large"),
        (b"\x00\x00\x02\x00" * 3, "truncated; the file is too short|which is too large"),
        (b"\xff\xff\xff\xff" * 3, "expected a 3D volume, found the shape"),
        (b"\x00\x00\x00\x00" * 3, "expected a 3D volume, found the shape"),
    ],
)
def test_impossible_sizes_are_refused(tmp_path, value, problem):
    check_error(change(write(tmp_path / "a.mgz"), DIMS, value), problem)


@pytest.mark.parametrize("keep", [0, 10, 100, -40])
def test_a_truncated_file_is_refused(tmp_path, keep):
    file = write(tmp_path / "a.mgz")
    file.write_bytes(file.read_bytes()[:keep])
    check_error(file, "not a readable MGH file|truncated")


@pytest.mark.parametrize("content", [b"", b"text", bytes(500)])
def test_a_file_that_is_no_mgh_is_refused(tmp_path, content):
    for suffix in (".mgh", ".mgz"):
        (tmp_path / f"a{suffix}").write_bytes(content)
        check_error(tmp_path / f"a{suffix}", "not a readable MGH file")


def test_a_missing_file_is_named(tmp_path):
    check_error(tmp_path / "none.mgz", "no such file")
