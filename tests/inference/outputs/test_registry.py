import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders import make_scan
from dicom_builders import write_classic

from heartseg.errors import ConfigError, DataError
from heartseg.exchange.label_maps import read_labels
from heartseg.inference.outputs.output_format import OutputFormat, one_file
from heartseg.inference.outputs.registry import (
    PICTURE_FORMATS,
    SCAN_FORMATS,
    check_source,
    find_wanted,
    name_files,
    write_files,
)
from heartseg.inference.results import SegmentedPicture, SegmentedScan, restrict
from heartseg.labels import HVSMR
from heartseg.modelfile.description import WHOLE_HEART, WHOLE_HEART_VIEW, ModelDescription
from heartseg.scans.dicom_series import choose_series
from heartseg.scans.fingerprint import fingerprint_scan
from heartseg.scans.provenance import Provenance, read_provenance
from heartseg.scans.volume import build_volume
from heartseg.slices.store import read_mask

WANTED = HVSMR.foreground[:2]
FROM_ANY_SCAN = [name for name, entry in SCAN_FORMATS.items() if not entry.needs_dicom]
"""A DICOM SEG is written of a DICOM series: ``tests/pipelines/test_infer_formats.py``."""
WHICH = ("largest", "median", "smallest")


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A segmented scan of a DICOM series."""
    scan = make_scan()
    stored = (scan.image * 1000 + 500).astype(np.uint16)
    folder = write_classic(tmp_path_factory.mktemp("series"), stored, scan.affine)
    return SegmentedScan(
        "pat4",
        build_volume(scan.image.astype(np.float32), scan.affine),
        scan.labels.astype(np.uint8),
        None,
        (),
        ModelDescription(WHOLE_HEART_VIEW, HVSMR, WHOLE_HEART),
        series=choose_series(folder),
        absent=("PA",),
        doubt=tuple(np.ones(side) for side in scan.labels.shape),
    )


def test_the_files_of_every_format_have_their_published_names():
    files = name_files(
        SCAN_FORMATS, SCAN_FORMATS, folder=Path("out"), case="pat4", structures=WANTED
    )

    assert {name: [file.as_posix() for file in paths] for name, paths in files.items()} == {
        "label_map": ["out/pat4_seg.nii.gz"],
        "preview": ["out/pat4_preview.png"],
        "numbers": ["out/pat4.json"],
        "report": ["out/pat4_report.html"],
        "movie_webm": ["out/pat4_overlay.webm"],
        "movie_gif": ["out/pat4_overlay.gif"],
        "movie_mp4": ["out/pat4_overlay.mp4"],
        "surfaces": [
            "out/pat4_LV.stl",
            "out/pat4_RV.stl",
            "out/pat4_blood_pool.stl",
            "out/pat4_heart.glb",
        ],
        "slicer": ["out/pat4.seg.nrrd", "out/pat4.ctbl"],
        "split": ["out/pat4_LV.nii.gz", "out/pat4_RV.nii.gz"],
        "suggestion": ["out/pat4_suggested.csv", "out/pat4_suggested.nii.gz"],
        "dicom_seg": ["out/pat4.seg.dcm"],
    }
    files = name_files(
        PICTURE_FORMATS, PICTURE_FORMATS, folder=Path(), case="a_012", structures=WANTED
    )
    assert list(files.values()) == [(Path("a_012.png"),), (Path("a_012_overlay.png"),)]


def test_a_format_may_have_a_file_per_structure():
    surfaces = OutputFormat(("_{structure}.stl", "_heart.glb"), lambda files, result: None)

    files = surfaces.name_files(Path("out"), "pat4", WANTED)

    assert [file.name for file in files] == ["pat4_LV.stl", "pat4_RV.stl", "pat4_heart.glb"]


def test_an_unknown_format_is_named_with_those_that_there_are():
    with pytest.raises(
        ConfigError,
        match=r"infer.outputs: expected output formats \(label_map, preview, .*\), found stl, x",
    ):
        name_files(
            SCAN_FORMATS,
            ["preview", "stl", "x"],
            folder=Path(),
            case="a",
            structures=WANTED,
            option="infer.outputs",
        )


def test_a_label_map_to_correct_holds_all_structures():
    with pytest.raises(
        ConfigError, match="suggestion: a label map to correct holds all structures"
    ):
        find_wanted(["label_map", "suggestion"], structures=["RV"])


def test_a_format_that_is_chosen_twice_is_written_once(tmp_path, result):
    written = []
    formats = {
        "text": one_file(".txt", lambda file, result: written.append((file.name, result.case)))
    }

    files = name_files(formats, ["text", "text"], folder=tmp_path, case="a", structures=WANTED)
    write_files(formats, files, result)

    assert written == [("a.txt", "pat4")]


def test_every_format_of_a_scan_writes_the_files_that_it_names(tmp_path, result):
    files = name_files(
        SCAN_FORMATS, FROM_ANY_SCAN, folder=tmp_path, case="pat4", structures=HVSMR.foreground
    )

    write_files(SCAN_FORMATS, files, result)

    named = {file.name for paths in files.values() for file in paths}
    assert {file.name for file in tmp_path.iterdir()} == named
    assert all((tmp_path / name).stat().st_size > 100 for name in named)
    label_map = nibabel.load(tmp_path / "pat4_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(label_map.dataobj), result.labels)


def test_only_a_dicom_seg_needs_dicom(result):
    check_source(SCAN_FORMATS, result.series, source="a")
    check_source([name for name in SCAN_FORMATS if name != "dicom_seg"], None, source="a")
    with pytest.raises(DataError, match=r"a: expected a DICOM series, .* \(--dicom-seg\) refers"):
        check_source(["label_map", "dicom_seg"], None, source="a")


def test_the_numbers_say_what_was_measured_and_of_what(tmp_path, result):
    wanted = find_wanted(["report"], structures=["aO", "RV", "LV"], bsa_m2=0.5)
    known = restrict(result, wanted)
    counts = np.bincount(result.labels.ravel())
    voxel_ml = abs(np.linalg.det(result.scan.affine[:3, :3])) / 1000

    SCAN_FORMATS["numbers"].write([tmp_path / "pat4.json"], known)

    read = json.loads((tmp_path / "pat4.json").read_text())
    assert list(read["structures"]) == ["LV", "RV", "AO"]
    left, aorta = read["structures"]["LV"], read["structures"]["AO"]
    assert left["volume_ml"] == pytest.approx(counts[1] * voxel_ml, abs=1e-4)
    assert left["volume_ml_per_m2"] == pytest.approx(2 * counts[1] * voxel_ml, abs=1e-4)
    mean = result.scan.voxels[result.labels == 1].mean()
    assert left["mean_intensity"] == pytest.approx(mean, rel=1e-4)
    assert left["surface_area_mm2"] > 0
    assert read["ratios"]["RV/LV"]["ratio"] == pytest.approx(counts[2] / counts[1], abs=1e-4)
    assert "RA/LA" not in read["ratios"]
    if aorta["diameters"] is not None:
        sizes = [aorta["diameters"][which]["diameter_mm"] for which in WHICH]
        assert sizes == sorted(sizes, reverse=True)
    assert (read["body_surface_m2"], read["shapes_measured"]) == (0.5, True)
    assert read["declared_absent"] == ["PA"]
    assert read["scan_hash"] == fingerprint_scan(result.scan)


def test_without_being_asked_nothing_is_measured_on_surfaces(tmp_path, result):
    SCAN_FORMATS["numbers"].write(
        [tmp_path / "pat4.json"], restrict(result, find_wanted(["label_map", "slicer"]))
    )

    left = json.loads((tmp_path / "pat4.json").read_text())["structures"]["LV"]
    assert left["volume_ml"] > 0
    assert (left["surface_area_mm2"], left["diameters"], left["volume_ml_per_m2"]) == (None,) * 3
    assert find_wanted(["label_map"], diameters=True).shapes


def test_a_subset_of_structures_holds_in_every_file(tmp_path, result):
    formats = [name for name in FROM_ANY_SCAN if name != "suggestion"]
    known = restrict(result, find_wanted(formats, structures=["RV", "LA"]))
    files = name_files(
        SCAN_FORMATS, formats, folder=tmp_path, case="pat4", structures=known.structures
    )

    write_files(SCAN_FORMATS, files, known)

    label_map = np.asarray(nibabel.load(tmp_path / "pat4_seg.nii.gz").dataobj)
    assert set(np.unique(label_map)) == {0, 2, 3}
    np.testing.assert_array_equal(label_map == 2, result.labels == 2)
    surfaces = {file.name for file in tmp_path.glob("*.stl")}
    assert surfaces == {"pat4_RV.stl", "pat4_LA.stl", "pat4_blood_pool.stl"}
    assert sorted(f.name for f in tmp_path.glob("pat4_??.nii.gz")) == [
        "pat4_LA.nii.gz",
        "pat4_RV.nii.gz",
    ]
    assert [row.structure for row in known.rows] == ["RV", "LA"]
    page = (tmp_path / "pat4_report.html").read_text()
    assert "left atrium" in page
    assert "aorta" not in page


def test_label_maps_of_all_formats_name_the_model(tmp_path, result):
    known = replace(result, model=replace(result.model, identity="mine"))
    formats = ["label_map", "slicer", "split"]
    files = name_files(
        SCAN_FORMATS, formats, folder=tmp_path, case="pat4", structures=known.structures
    )

    write_files(SCAN_FORMATS, files, known)

    names = ["pat4_seg.nii.gz", "pat4_LV.nii.gz", "pat4.seg.nrrd"]
    makers = [read_provenance(read_labels(tmp_path / name, HVSMR).header) for name in names]
    assert makers == [Provenance("mine")] * 3


def test_a_surface_of_an_earlier_call_goes_if_its_structure_is_gone(tmp_path, result):
    empty = replace(result, labels=np.where(result.labels == 1, 1, 0).astype(np.uint8))
    files = name_files(
        SCAN_FORMATS, ["surfaces"], folder=tmp_path, case="pat4", structures=HVSMR.foreground
    )

    write_files(SCAN_FORMATS, files, result)
    write_files(SCAN_FORMATS, files, empty)

    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "pat4_LV.stl",
        "pat4_blood_pool.stl",
        "pat4_heart.glb",
    ]


def test_a_structure_that_the_model_does_not_know_is_refused(result):
    with pytest.raises(DataError, match=r"structures: expected some of LV, RV, .*, found XY"):
        restrict(result, find_wanted([], structures=["LV", "XY"]))


def test_every_format_of_a_picture_writes_the_files_that_it_names(tmp_path):
    labels = make_scan().labels[..., 4].astype(np.uint8)
    picture = SegmentedPicture(np.full(labels.shape, 90, np.uint8), labels, HVSMR)
    files = name_files(
        PICTURE_FORMATS, PICTURE_FORMATS, folder=tmp_path, case="a", structures=HVSMR.foreground
    )

    write_files(PICTURE_FORMATS, files, picture)

    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "a_overlay.png"}
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", HVSMR), labels)
