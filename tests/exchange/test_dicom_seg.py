"""DICOM SEG: read back with highdicom, with pydicom, and with our own reader."""

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from builders import make_affine, make_scan, rotate
from dicom_builders import (
    IDENTITY,
    SECRETS,
    make_classic,
    make_enhanced,
    save,
    write_archive,
    write_classic,
)
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

from heartseg import __version__
from heartseg.errors import DataError
from heartseg.exchange.dicom_seg import read_dicom_seg, write_dicom_seg
from heartseg.labels import HVSMR, LabelTable, Structure
from heartseg.scans.dicom import read_dicom
from heartseg.scans.dicom_series import choose_series

SCAN = make_scan((12, 11, 9), axes="LPS")
AFFINE = rotate(SCAN.affine)
VOXELS = (SCAN.image * 1000 + 500).astype(np.uint16)
LABELS = np.where(SCAN.labels == 2, 0, SCAN.labels).astype(np.uint8)  # no right ventricle
LABELS[:, :, 0] = 0


def make_source(path, kind):
    """Write the scan as a series of one of several kinds; return its path."""
    if kind == "classic":
        return write_classic(path / "a", VOXELS, AFFINE)
    if kind == "zip":
        return write_archive(path / "a.zip", write_classic(path / "a", VOXELS, AFFINE))
    if kind == "multi-frame":
        order = (3, 1, 0, 2, 8, 7, 6, 5, 4)
        return save(make_enhanced(VOXELS, AFFINE, order=order), path / "a.dcm")
    for part in (slice(0, 4), slice(4, 9)):
        affine = AFFINE.copy()
        affine[:3, 3] += part.start * AFFINE[:3, 2]
        save(make_enhanced(VOXELS[:, :, part], affine), path / f"a/{part.start}.dcm")
    return path / "a"


@pytest.fixture
def series(tmp_path):
    return choose_series(make_source(tmp_path, "classic"))


@pytest.fixture
def seg_file(series, tmp_path):
    file = tmp_path / "out" / "a_seg.dcm"
    write_dicom_seg(file, LABELS, affine=AFFINE, series=series, table=HVSMR)
    return file


@pytest.mark.parametrize("kind", ["classic", "zip", "multi-frame", "multi-frame files"])
def test_a_label_map_comes_back_voxel_by_voxel(tmp_path, kind):
    path = make_source(tmp_path, kind)
    file = tmp_path / "out" / "a_seg.dcm"
    write_dicom_seg(file, LABELS, affine=AFFINE, series=choose_series(path), table=HVSMR)

    scan = read_dicom(path)
    volume = read_dicom_seg(file, HVSMR, like=scan)
    np.testing.assert_array_equal(volume.voxels, LABELS)
    np.testing.assert_array_equal(volume.affine, scan.affine)
    assert volume.voxels.dtype == np.uint8


def test_without_a_scan_the_grid_is_that_of_the_labelled_slices(seg_file):
    volume = read_dicom_seg(seg_file, HVSMR)
    first, last = np.flatnonzero(LABELS.any(axis=(0, 1)))[[0, -1]]
    np.testing.assert_array_equal(volume.voxels, LABELS[:, :, first : last + 1])
    np.testing.assert_allclose(volume.affine @ (2, 3, 0, 1), AFFINE @ (2, 3, first, 1), atol=1e-4)


def test_highdicom_reads_it_by_the_images_it_refers_to(seg_file, series, tmp_path):
    seg = highdicom.seg.segread(seg_file)
    by_slice = [pydicom.dcmread(tmp_path / "a" / frame.file) for frame in series.stack.frames]
    voxels = seg.get_pixels_by_source_instance(
        [image.SOPInstanceUID for image in by_slice],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(voxels, LABELS.transpose(2, 1, 0))
    assert seg.get_volume_geometry() is not None


def test_segments_are_numbered_by_their_labels_and_coded_in_snomed(seg_file):
    dataset = pydicom.dcmread(seg_file)
    assert dataset.SOPClassUID.name == "Segmentation Storage"
    assert dataset.SegmentationType == "BINARY"
    found = [
        (
            segment.SegmentNumber,
            segment.SegmentLabel,
            segment.SegmentedPropertyTypeCodeSequence[0].CodeValue,
            segment.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator,
            segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning,
        )
        for segment in dataset.SegmentSequence
    ]
    expected = ("87878005", "53085002", "82471001", "73829009", "15825003", "81040000")
    expected += ("48345005", "64131007")
    assert found == [
        (structure.value, structure.name, code, "SCT", "Anatomical Structure")
        for structure, code in zip(HVSMR.foreground, expected, strict=True)
    ]


def test_segments_have_the_colours_of_the_table_and_say_what_made_them(seg_file):
    for structure, segment in zip(
        HVSMR.foreground, pydicom.dcmread(seg_file).SegmentSequence, strict=True
    ):
        color = highdicom.color.CIELabColor(0, 0, 0)
        color._value = tuple(segment.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(color.to_rgb(), structure.color, atol=2)
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("heartseg", __version__)


def test_patient_and_study_are_those_of_the_source(seg_file, tmp_path):
    dataset = pydicom.dcmread(seg_file)
    source = pydicom.dcmread(next((tmp_path / "a").iterdir()))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", *IDENTITY):
        assert getattr(dataset, keyword) == getattr(source, keyword), keyword
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    (reference,) = dataset.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == source.SeriesInstanceUID
    assert len(reference.ReferencedInstanceSequence) == 9
    assert dataset.Manufacturer == "heartseg"
    assert "for research only" in dataset.ContentDescription


def test_a_label_map_along_other_axes_is_turned_to_the_series(series, tmp_path):
    turn = ornt_transform(io_orientation(AFFINE), nibabel.orientations.axcodes2ornt("PIR"))
    turned = nibabel.Nifti1Image(LABELS, AFFINE).as_reoriented(turn)
    file = tmp_path / "a_seg.dcm"
    labels = np.asarray(turned.dataobj)
    write_dicom_seg(file, labels, affine=turned.affine, series=series, table=HVSMR)
    like = read_dicom(series.path)
    np.testing.assert_array_equal(read_dicom_seg(file, HVSMR, like=like).voxels, LABELS)


def test_a_choice_of_structures_is_numbered_from_one(series, tmp_path):
    file = tmp_path / "a_seg.dcm"
    write_dicom_seg(file, LABELS, affine=AFFINE, series=series, table=HVSMR, keys=["AO", "LV"])
    segments = pydicom.dcmread(file).SegmentSequence
    assert [(s.SegmentNumber, s.SegmentLabel) for s in segments] == [
        (1, "left ventricle"),
        (2, "aorta"),
    ]
    volume = read_dicom_seg(file, HVSMR, like=read_dicom(series.path))
    np.testing.assert_array_equal(volume.voxels, np.where(np.isin(LABELS, (1, 5)), LABELS, 0))


def test_structures_of_ones_own_come_back_by_their_private_code(series, tmp_path):
    table = LabelTable(
        (
            Structure(0, "background", "background", (0, 0, 0)),
            Structure(1, "LV", "left ventricle", (255, 0, 0)),
            Structure(2, "MYO", "left ventricular wall", (0, 255, 0)),
        )
    )
    labels = np.minimum(LABELS, 2)
    write_dicom_seg(tmp_path / "a.dcm", labels, affine=AFFINE, series=series, table=table)
    like = read_dicom(series.path)
    volume = read_dicom_seg(tmp_path / "a.dcm", table, like=like)
    np.testing.assert_array_equal(volume.voxels, labels)
    with pytest.raises(DataError, match=r"segment 2 is none of the structures LV, RV, .* by its"):
        read_dicom_seg(tmp_path / "a.dcm", HVSMR, like=like)


@pytest.mark.parametrize("missing", ["PatientID", "StudyDate", "AccessionNumber", "PatientSex"])
def test_what_anonymising_removes_is_empty(tmp_path, missing):
    for z, dataset in enumerate(make_classic(VOXELS, AFFINE)):
        delattr(dataset, missing)
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    series = choose_series(tmp_path / "a")
    write_dicom_seg(tmp_path / "s.dcm", LABELS, affine=AFFINE, series=series, table=HVSMR)
    assert not getattr(pydicom.dcmread(tmp_path / "s.dcm"), missing)


@pytest.mark.parametrize("missing", ["FrameOfReferenceUID", "StudyInstanceUID"])
def test_a_series_without_what_must_be_there_is_refused(tmp_path, missing):
    for z, dataset in enumerate(make_classic(VOXELS, AFFINE)):
        delattr(dataset, missing)
        save(dataset, tmp_path / "a" / f"{z}.dcm")
    series = choose_series(tmp_path / "a")
    with pytest.raises(DataError, match=f'series 3 "whole heart": its headers have no {missing}'):
        write_dicom_seg(tmp_path / "s.dcm", LABELS, affine=AFFINE, series=series, table=HVSMR)
    assert not (tmp_path / "s.dcm").exists()


def test_broken_values_of_a_patient_are_not_repeated(tmp_path):
    with pydicom.config.disable_value_validation():
        for z, dataset in enumerate(make_classic(VOXELS, AFFINE)):
            del dataset.PatientBirthDate
            dataset.add_new("PatientBirthDate", "LO", "DOE^JANE 19830214")
            save(dataset, tmp_path / "a" / f"{z}.dcm")
    series = choose_series(tmp_path / "a")
    with pytest.raises(DataError, match="its headers lack what a DICOM SEG needs, or") as caught:
        write_dicom_seg(tmp_path / "s.dcm", LABELS, affine=AFFINE, series=series, table=HVSMR)
    said = f"{caught.value}{caught.value.__cause__}"
    assert not [secret for secret in SECRETS if secret in said]


def test_an_empty_label_map_is_refused(series, tmp_path):
    with pytest.raises(DataError, match=r"needs at least one labelled voxel; .* none of RV$"):
        write_dicom_seg(
            tmp_path / "s.dcm", LABELS, affine=AFFINE, series=series, table=HVSMR, keys=["RV"]
        )


def test_a_label_map_of_another_grid_is_refused(series, tmp_path):
    other = make_affine("LPS", (0.5, 0.5, 0.5))
    with pytest.raises(DataError, match=r"s\.dcm: its voxels do not coincide with those of the"):
        write_dicom_seg(tmp_path / "s.dcm", LABELS, affine=other, series=series, table=HVSMR)


def test_segments_that_overlap_are_refused(seg_file, series, tmp_path):
    dataset = pydicom.dcmread(seg_file)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        identification = group.SegmentIdentificationSequence[0]
        if identification.ReferencedSegmentNumber == 3:
            identification.ReferencedSegmentNumber = 2
    dataset.PixelData = b"\xff" * len(dataset.PixelData)
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"b\.dcm: not a readable DICOM SEG without overlaps"):
        read_dicom_seg(tmp_path / "b.dcm", HVSMR)


def test_a_segmentation_that_claims_distant_slices_takes_no_memory(seg_file, tmp_path):
    dataset = pydicom.dcmread(seg_file)
    group = dataset.PerFrameFunctionalGroupsSequence[-1]
    far = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
    steps = 10**7
    group.PlanePositionSequence[0].ImagePositionPatient = [
        f"{value:.10g}" for value in far + steps * (np.diag([-1, -1, 1]) @ AFFINE[:3, 2])
    ]
    dataset.save_as(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"which is too large|not parallel slices|not a read"):
        read_dicom_seg(tmp_path / "b.dcm", HVSMR)


@pytest.mark.parametrize("keep", [0, 100, 140, 1000, 5000, -40])
def test_a_truncated_file_is_refused(seg_file, keep):
    seg_file.write_bytes(seg_file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a_seg\.dcm: not a ") as caught:
        read_dicom_seg(seg_file, HVSMR)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_other_files_are_refused(tmp_path):
    source = make_source(tmp_path, "multi-frame")
    with pytest.raises(DataError, match=r"a\.dcm: not a readable DICOM SEG"):
        read_dicom_seg(source, HVSMR)
    (tmp_path / "b.dcm").write_bytes(b"text")
    with pytest.raises(DataError, match=r"b\.dcm: not a DICOM file"):
        read_dicom_seg(tmp_path / "b.dcm", HVSMR)
    with pytest.raises(DataError, match=r"none\.dcm: no such file"):
        read_dicom_seg(tmp_path / "none.dcm", HVSMR)


@pytest.mark.parametrize("kind", ["classic", "multi-frame"])
def test_the_label_map_of_a_real_heart_comes_back(hvsmr2, tmp_path, kind):
    image = nibabel.load(hvsmr2 / "cropped_norm" / "pat58_cropped_seg.nii.gz")
    labels = np.asarray(image.dataobj).astype(np.uint8)
    stored = labels.astype(np.uint16) * 100
    if kind == "classic":
        path = write_classic(tmp_path / "a", stored, image.affine)
    else:
        path = save(make_enhanced(stored, image.affine), tmp_path / "a.dcm")
    file = tmp_path / "a_seg.dcm"
    write_dicom_seg(file, labels, affine=image.affine, series=choose_series(path), table=HVSMR)

    scan = read_dicom(path)
    turn = ornt_transform(io_orientation(image.affine), io_orientation(scan.affine))
    volume = read_dicom_seg(file, HVSMR, like=scan)
    np.testing.assert_array_equal(volume.voxels, apply_orientation(labels, turn))
    np.testing.assert_array_equal(volume.voxels * 100.0, scan.voxels)
