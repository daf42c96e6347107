from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders import make_scan

from heartseg.errors import ConfigError
from heartseg.inference.outputs.output_format import OutputFormat, one_file
from heartseg.inference.outputs.registry import (
    PICTURE_FORMATS,
    SCAN_FORMATS,
    name_files,
    write_files,
)
from heartseg.inference.results import SegmentedPicture, SegmentedScan
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.description import WHOLE_HEART, WHOLE_HEART_VIEW, ModelDescription
from heartseg.scans.volume import build_volume
from heartseg.slices.store import read_mask

TABLE = LabelTable(HVSMR.structures[:3])


@pytest.fixture(scope="module")
def result():
    scan = make_scan()
    return SegmentedScan(
        "pat4",
        build_volume(scan.image.astype(np.float32), scan.affine),
        scan.labels.astype(np.uint8),
        None,
        (),
        ModelDescription(WHOLE_HEART_VIEW, HVSMR, WHOLE_HEART),
    )


def test_the_files_of_every_format_have_their_published_names():
    files = name_files(SCAN_FORMATS, SCAN_FORMATS, folder=Path("out"), case="pat4", table=TABLE)

    assert {name: [file.as_posix() for file in paths] for name, paths in files.items()} == {
        "label_map": ["out/pat4_seg.nii.gz"],
        "preview": ["out/pat4_preview.png"],
        "report": ["out/pat4_report.html"],
        "movie_webm": ["out/pat4_overlay.webm"],
        "movie_gif": ["out/pat4_overlay.gif"],
        "movie_mp4": ["out/pat4_overlay.mp4"],
        "slicer": ["out/pat4.seg.nrrd", "out/pat4.ctbl"],
        "split": ["out/pat4_LV.nii.gz", "out/pat4_RV.nii.gz"],
        "dicom_seg": ["out/pat4.seg.dcm"],
    }
    files = name_files(PICTURE_FORMATS, PICTURE_FORMATS, folder=Path(), case="a_012", table=TABLE)
    assert list(files.values()) == [(Path("a_012.png"),), (Path("a_012_overlay.png"),)]


def test_a_format_may_have_a_file_per_structure():
    surfaces = OutputFormat(("_{structure}.stl", "_heart.glb"), lambda files, result: None)

    files = surfaces.name_files(Path("out"), "pat4", TABLE)

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
            table=TABLE,
            option="infer.outputs",
        )


def test_a_format_that_is_chosen_twice_is_written_once(tmp_path, result):
    written = []
    formats = {"text": one_file(".txt", lambda file, result: written.append((file, result.case)))}

    files = name_files(formats, ["text", "text"], folder=tmp_path, case="a", table=TABLE)
    write_files(formats, files, result)

    assert written == [(tmp_path / "a.txt", "pat4")]


def test_every_format_of_a_scan_writes_the_files_that_it_names(tmp_path, result):
    files = name_files(SCAN_FORMATS, SCAN_FORMATS, folder=tmp_path, case="pat4", table=HVSMR)

    write_files(SCAN_FORMATS, files, result)

    named = {file.name for paths in files.values() for file in paths}
    assert {file.name for file in tmp_path.iterdir()} == named
    assert all((tmp_path / name).stat().st_size > 100 for name in named)
    label_map = nibabel.load(tmp_path / "pat4_seg.nii.gz")
    np.testing.assert_array_equal(np.asarray(label_map.dataobj), result.labels)


def test_every_format_of_a_picture_writes_the_files_that_it_names(tmp_path):
    labels = make_scan().labels[..., 4].astype(np.uint8)
    picture = SegmentedPicture(np.full(labels.shape, 90, np.uint8), labels, HVSMR)
    files = name_files(PICTURE_FORMATS, PICTURE_FORMATS, folder=tmp_path, case="a", table=HVSMR)

    write_files(PICTURE_FORMATS, files, picture)

    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "a_overlay.png"}
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", HVSMR), labels)
