"""Label maps of every format, on their own grid and on that of a scan."""

import nibabel
import numpy as np
import pytest
from builders import make_scan, write_nifti
from dicom_builders import write_classic
from itk_images import write_itk

from heartseg.errors import DataError
from heartseg.exchange.dicom_seg import write_dicom_seg
from heartseg.exchange.label_maps import read_labels, read_labels_with_room
from heartseg.exchange.slicer import write_seg_nrrd
from heartseg.labels import HVSMR
from heartseg.scans.dicom_series import choose_series
from heartseg.scans.reading import read_scan

SCAN = make_scan(axes="LPS")
LABELS = SCAN.labels.astype(np.uint8)
FORMATS = ["a.nii.gz", "a.nrrd", "a.seg.nrrd", "a.mha", "a.mgz", "a.dcm"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same label map in every format, and its scan."""
    folder = tmp_path_factory.mktemp("labels")
    write_nifti(folder / "a.nii.gz", LABELS, SCAN.affine)
    for name in ("a.nrrd", "a.mha"):
        write_itk(folder / name, LABELS, SCAN.affine)
    nibabel.save(nibabel.MGHImage(LABELS, SCAN.affine), folder / "a.mgz")
    write_seg_nrrd(folder / "a.seg.nrrd", LABELS, affine=SCAN.affine, table=HVSMR)
    write_classic(folder / "scan", LABELS.astype(np.uint16), SCAN.affine)
    series = choose_series(folder / "scan")
    write_dicom_seg(folder / "a.dcm", LABELS, affine=SCAN.affine, series=series, table=HVSMR)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_labels(files, name):
    scan = read_scan(files / "scan")
    volume = read_labels(files / name, HVSMR, like=scan)
    assert volume.voxels.dtype == np.uint8
    np.testing.assert_array_equal(volume.voxels, LABELS)
    np.testing.assert_array_equal(volume.affine, scan.affine)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "a.dcm"])
def test_without_a_scan_the_grid_is_that_of_the_file(files, name):
    volume = read_labels(files / name, HVSMR)
    np.testing.assert_array_equal(volume.voxels, LABELS)
    np.testing.assert_allclose(volume.affine, SCAN.affine, atol=1e-4)


def rewrite(source, target, *changes):
    """Change the text header of a segmentation of 3D Slicer."""
    content = source.read_bytes()
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    target.write_bytes(content)
    return target


def test_what_a_file_leaves_out_is_background_around_it(files, tmp_path):
    cut = tmp_path / "cut.seg.nrrd"
    rewrite(files / "a.seg.nrrd", cut, (b"ExtentOffset:=0 0 0", b"ExtentOffset:=12 0 3"))

    for file, room in ((files / "a.dcm", (0, 0, 1)), (cut, (1, 1, 1)), (files / "a.mha", 0)):
        plain, roomy = read_labels(file, HVSMR), read_labels_with_room(file, HVSMR)
        inner = tuple(
            slice(n, size - n)
            for n, size in zip(np.broadcast_to(room, 3), roomy.voxels.shape, strict=True)
        )
        np.testing.assert_array_equal(roomy.voxels[inner], plain.voxels)
        assert np.count_nonzero(roomy.voxels) == np.count_nonzero(plain.voxels)
        place = roomy.affine @ [*np.broadcast_to(room, 3), 1]
        np.testing.assert_allclose(place, plain.affine[:, 3], atol=1e-4)


def test_segments_are_known_by_their_code_whatever_their_value_and_name(files, tmp_path):
    file = rewrite(
        files / "a.seg.nrrd",
        tmp_path / "b.seg.nrrd",
        (b"Segment0_LabelValue:=1\n", b"Segment0_LabelValue:=5\n"),
        (b"Segment4_LabelValue:=5\n", b"Segment4_LabelValue:=1\n"),
        (b"Segment0_Name:=left ventricle\n", b"Segment0_Name:=Segment_1\n"),
        (b"Segment0_ID:=LV\n", b"Segment0_ID:=Segment_1\n"),
    )
    swapped = np.where(LABELS == 1, 5, np.where(LABELS == 5, 1, LABELS))
    np.testing.assert_array_equal(read_labels(file, HVSMR).voxels, swapped)


def test_segments_without_a_code_are_known_by_their_name(files, tmp_path):
    file = rewrite(
        files / "a.seg.nrrd",
        tmp_path / "b.seg.nrrd",
        (b"SCT^87878005^Left ventricle", b"SCT^85756007^Tissue"),
    )
    np.testing.assert_array_equal(read_labels(file, HVSMR).voxels, LABELS)


def test_a_segment_that_is_no_structure_is_refused_by_name(files, tmp_path):
    file = rewrite(
        files / "a.seg.nrrd",
        tmp_path / "b.seg.nrrd",
        (b"SCT^87878005^Left ventricle", b"SCT^10200004^Liver"),
        (b"Segment0_Name:=left ventricle\n", b"Segment0_Name:=liver\n"),
        (b"Segment0_ID:=LV\n", b"Segment0_ID:=Segment_1\n"),
    )
    with pytest.raises(DataError, match=r"segment 'liver' is none of the structures LV, RV, .*IVC"):
        read_labels(file, HVSMR)


def test_values_that_are_no_labels_are_refused_in_every_format(tmp_path):
    for name in ("a.nrrd", "a.mha"):
        write_itk(tmp_path / name, LABELS + 1, SCAN.affine)
        with pytest.raises(DataError, match=f"{name}: expected label values 0 to 8, found 9"):
            read_labels(tmp_path / name, HVSMR)
    write_itk(tmp_path / "b.mha", LABELS * np.float32(0.5), SCAN.affine)
    with pytest.raises(DataError, match=r"b\.mha: expected whole numbers as labels, found"):
        read_labels(tmp_path / "b.mha", HVSMR)


def test_voxels_that_nobody_labelled_are_allowed_where_that_is_asked_for(tmp_path):
    labels = LABELS.copy()
    labels[0] = 255
    write_itk(tmp_path / "a.nrrd", labels, SCAN.affine)
    np.testing.assert_array_equal(
        read_labels(tmp_path / "a.nrrd", HVSMR, partial=True).voxels, labels
    )
    with pytest.raises(DataError, match="expected label values 0 to 8, found 255"):
        read_labels(tmp_path / "a.nrrd", HVSMR)


def test_a_label_map_of_another_grid_than_the_scan_is_refused(files, tmp_path):
    write_itk(tmp_path / "a.nrrd", LABELS, SCAN.affine @ np.diag([1, 1, 1.1, 1]))
    with pytest.raises(DataError, match=r"a\.nrrd: its voxels do not coincide with those of the"):
        read_labels(tmp_path / "a.nrrd", HVSMR, like=read_scan(files / "scan"))
