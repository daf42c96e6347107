"""Files for 3D Slicer, read back with pynrrd, ITK and our own reader."""

import nrrd
import numpy as np
import pytest
import SimpleITK
from builders import make_scan, rotate

from heartseg.errors import DataError
from heartseg.exchange.label_maps import read_labels
from heartseg.exchange.slicer import write_seg_nrrd, write_slicer_colors
from heartseg.labels import HVSMR
from heartseg.scans.nrrd import read_nrrd
from heartseg.scans.provenance import Provenance, read_provenance

SCAN = make_scan()
LABELS = np.where(SCAN.labels == 2, 0, SCAN.labels).astype(np.uint8)  # no right ventricle
AFFINE = rotate(SCAN.affine)


@pytest.fixture
def file(tmp_path):
    write_seg_nrrd(tmp_path / "a.seg.nrrd", LABELS, affine=AFFINE, table=HVSMR)
    return tmp_path / "a.seg.nrrd"


def test_voxels_and_positions_come_back(file):
    voxels, header = nrrd.read(str(file))
    np.testing.assert_array_equal(voxels, LABELS)
    assert header["space"] == "left-posterior-superior"
    lps = np.diag([-1, -1, 1]) @ AFFINE[:3]
    np.testing.assert_array_equal(header["space directions"], lps[:, :3].T)
    np.testing.assert_array_equal(header["space origin"], lps[:, 3])

    image = SimpleITK.ReadImage(str(file))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, LABELS)
    point = image.TransformContinuousIndexToPhysicalPoint((5.0, 2.0, 7.0))
    np.testing.assert_allclose(point, lps @ (5, 2, 7, 1), atol=1e-9)
    np.testing.assert_allclose(read_nrrd(file).affine, AFFINE, atol=1e-5)


def test_each_segment_has_name_colour_value_extent_and_terms(file):
    header = nrrd.read_header(str(file))
    assert header["Segment0_ID"] == "LV"
    assert header["Segment0_Name"] == "left ventricle"
    # As people see it: the scan is grey and bright.
    assert header["Segment0_Color"] == "0.705882 0.235294 0.235294"
    assert header["Segment0_LabelValue"] == "1"
    assert header["Segment0_Layer"] == "0"
    assert header["Segment0_Tags"] == (
        "Segmentation.Status:completed|TerminologyEntry:"
        "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^87878005^Left ventricle~^^"
        "~Anatomic codes - DICOM master list~^^~^^|"
    )
    where = np.argwhere(LABELS == 1)
    extent = np.stack([where.min(axis=0), where.max(axis=0)], axis=1).ravel().tolist()
    assert header["Segment0_Extent"] == " ".join(map(str, extent))
    assert header["Segment7_Name"] == "inferior vena cava"
    assert "Segment8_Name" not in header
    assert header["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert header["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert header["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"


def test_an_absent_structure_is_an_empty_segment(file):
    assert nrrd.read_header(str(file))["Segment1_Extent"] == "0 -1 0 -1 0 -1"


def test_a_subset_of_structures_has_its_segments_only(tmp_path):
    wanted = [HVSMR.structures[1], HVSMR.structures[5]]
    kept = np.where(np.isin(LABELS, [1, 5]), LABELS, 0).astype(np.uint8)
    write_seg_nrrd(tmp_path / "a.seg.nrrd", kept, affine=AFFINE, table=HVSMR, structures=wanted)
    header = nrrd.read_header(str(tmp_path / "a.seg.nrrd"))
    assert [header["Segment0_ID"], header["Segment1_ID"]] == ["LV", "AO"]
    assert [header["Segment0_LabelValue"], header["Segment1_LabelValue"]] == ["1", "5"]
    assert "Segment2_ID" not in header


def test_equal_label_maps_in_any_memory_order_give_equal_bytes(file, tmp_path):
    other = tmp_path / "b.seg.nrrd"
    write_seg_nrrd(other, np.asfortranarray(LABELS), affine=AFFINE, table=HVSMR)
    assert other.read_bytes() == file.read_bytes()


def test_a_label_outside_of_the_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.seg\.nrrd: expected label values 0 to 8, found 9"):
        write_seg_nrrd(tmp_path / "a.seg.nrrd", LABELS + 1, affine=AFFINE, table=HVSMR)
    assert list(tmp_path.iterdir()) == []


def test_the_colour_table_lists_every_label_and_hides_the_background(tmp_path):
    write_slicer_colors(tmp_path / "a.ctbl", HVSMR)
    assert (tmp_path / "a.ctbl").read_text().splitlines() == [
        "# Color table file a.ctbl",
        "# 9 values",
        "0 background 0 0 0 0",
        "1 left_ventricle 180 60 60 255",
        "2 right_ventricle 30 165 255 255",
        "3 left_atrium 255 225 15 255",
        "4 right_atrium 0 240 255 255",
        "5 aorta 210 120 15 255",
        "6 pulmonary_artery 75 75 255 255",
        "7 superior_vena_cava 165 60 135 255",
        "8 inferior_vena_cava 150 225 150 255",
    ]


@pytest.mark.parametrize("model", ["best.keras, sha256 0123", 'h\u00e9 "a\\\\b"\n.keras'])
def test_the_model_that_made_a_segmentation_comes_back(tmp_path, model):
    made = Provenance(model, frozenset({"12ab"}))
    noted = tmp_path / "a.seg.nrrd"
    write_seg_nrrd(noted, LABELS, affine=AFFINE, table=HVSMR, provenance=made)

    assert read_provenance(read_labels(noted, HVSMR).header) == made
    # Another program reads the field, and the voxels behind it.
    voxels, header = nrrd.read(str(noted))
    assert header["heartseg_model"].startswith('{"model": "')
    np.testing.assert_array_equal(voxels, LABELS)
