import csv
import doctest
import json
import logging
import os
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from builders import (
    full_disk,
    list_visible,
    make_affine,
    make_config,
    make_scan,
    read_tree,
    write_nifti,
)

import heartseg
from heartseg.api import scoring
from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord
from heartseg.config.loading import write_config
from heartseg.errors import ConfigError, DataError, MissingPackageError, ModelError
from heartseg.evaluation.scores import COLUMNS
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.packaged import is_installed
from heartseg.networks.unet import build_unet
from heartseg.pipelines.infer import run_infer
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.volume import read_image, read_label_map
from heartseg.slices.recipe import SliceRecipe

SCAN = make_scan((14, 11, 9))
IMAGE = SCAN.image.astype(np.float32)
HEAVY = ["tensorflow", "keras", "cv2", "scipy", "pydantic", "nibabel", "numpy", "heartseg.labels"]


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch):
    """Log as in a notebook: a test of the command line in this process may have set handlers."""
    monkeypatch.setattr(logging.getLogger("heartseg"), "handlers", [])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run on slices whose best model is a small random network."""
    folder = tmp_path_factory.mktemp("project")
    config = make_config(
        folder,
        {
            "model": {"num_layers": 2, "image_channels": 1},
            "infer": {"largest_component": True, "batch_size": 3},
        },
    )
    config.run_dir.mkdir()
    recipe = SliceRecipe(image_height=32, image_width=24, image_channels=1)
    model = build_unet(image_size=(32, 24), image_channels=1, num_layers=2, base_filters=4, seed=5)
    labels = [
        {"value": s.value, "key": s.key, "name": s.name, "color": list(s.color)}
        for s in HVSMR.structures
    ]
    metadata = {"recipe": recipe.to_dict(), "labels": labels}
    save_model(model, config.run_dir / "best.keras", metadata)
    write_config(config, config.run_dir / "config.yaml")
    return config.run_dir


@pytest.fixture(scope="module")
def segmenter(run_dir):
    return heartseg.load_segmenter(run_dir)


@pytest.fixture
def scan_file(tmp_path):
    return write_nifti(tmp_path / "in" / "pat4_cropped_norm.nii.gz", IMAGE, SCAN.affine)


def run_python(script, folder):
    """Run a script in a process of its own, with another working directory."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path]))
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_importing_heartseg_loads_nothing_heavy(tmp_path):
    script = f"import sys, heartseg\nprint(sorted(set({HEAVY}) & set(sys.modules)))"
    assert run_python(script, tmp_path).stdout == "[]\n"


def test_every_name_is_there_and_listed():
    listed = dir(heartseg)
    for name in heartseg.__all__:
        assert getattr(heartseg, name) is not None
        assert name in listed
    assert {"segment", "score", "load_segmenter", "LABELS"} <= set(heartseg.__all__)
    with pytest.raises(AttributeError, match=r"module 'heartseg' has no attribute 'segmnt'"):
        heartseg.segmnt  # noqa: B018


def test_labels_are_those_of_the_data_set():
    entries = [(s.value, s.key, s.name, s.color) for s in heartseg.LABELS]

    assert len(heartseg.LABELS) == len(entries) == 9
    assert entries[1] == (1, "LV", "left ventricle", (255, 0, 0))


@pytest.mark.parametrize("given", ["path", "string", "image", "array"])
def test_a_scan_is_segmented_however_it_is_given(given, scan_file, segmenter, capfd):
    image = nibabel.load(scan_file)
    scan = {
        "path": scan_file,
        "string": str(scan_file),
        "image": image,
        "array": (np.asfortranarray(IMAGE), SCAN.affine),
    }[given]
    expected = segmenter.segment(read_image(scan_file)).labels

    result = heartseg.segment(scan, model=segmenter)

    np.testing.assert_array_equal(result.labels, expected)
    assert result.labels.dtype == np.uint8
    assert len(np.unique(expected)) > 2
    np.testing.assert_array_equal(np.asarray(result.image.dataobj), expected)
    np.testing.assert_allclose(result.image.affine, SCAN.affine, atol=1e-5)
    assert result.image.get_data_dtype() == np.uint8
    voxel_ml = 0.8 * 1.5 * 1.1 / 1000
    assert list(result.volumes_ml) == [s.key for s in HVSMR.foreground]
    for structure in HVSMR.foreground:
        voxels = (expected == structure.value).sum()
        assert result.volumes_ml[structure.key] == pytest.approx(voxels * voxel_ml, abs=1e-4)
    # A network of slices views a scan once.
    assert result.stability == {}
    assert result.notices == ()
    assert capfd.readouterr() == ("", "")
    # Reading the voxels did not fill the cache of the caller's image.
    assert not image.in_memory


def test_a_patient_is_recognised_by_the_label_map_beside_the_scan(segmenter, scan_file):
    label_file = write_nifti(
        scan_file.with_name("pat4_cropped_seg.nii.gz"), SCAN.labels, SCAN.affine
    )
    digest = fingerprint_labels(read_label_map(label_file, HVSMR))
    record = TrainingRecord(PartContents(("pat9",), {"pat9": digest}))
    known = replace(segmenter, model=replace(segmenter.model, record=record))

    [notice] = heartseg.segment(scan_file, model=known).notices
    assert notice.startswith("the model has seen this patient: its label map was a training case.")
    label_file.unlink()
    assert heartseg.segment(scan_file, model=known).notices == ()


def test_the_files_are_those_of_the_command(run_dir, scan_file, tmp_path):
    config = make_config(
        run_dir.parent,
        {
            "model": {"num_layers": 2, "image_channels": 1},
            "infer": {"largest_component": True, "movie": "gif"},
        },
    )
    run_infer(config, [scan_file], output_dir=tmp_path / "command")

    result = heartseg.segment(scan_file, model=run_dir)
    files = result.save(tmp_path / "api", formats=["label_map", "preview", "numbers", "movie_gif"])

    assert read_tree(tmp_path / "api") == read_tree(tmp_path / "command")
    assert [file.name for file in files] == [
        "pat4_seg.nii.gz",
        "pat4_preview.png",
        "pat4.json",
        "pat4_overlay.gif",
    ]


def test_what_is_saved_can_be_restricted_and_indexed(run_dir, scan_file, tmp_path):
    result = heartseg.segment(scan_file, model=run_dir)

    files = result.save(
        tmp_path, formats=["numbers", "surfaces", "split"], structures=["LV", "PA"], bsa_m2=0.5
    )

    assert {file.name for file in files} == {
        "pat4.json",
        *("pat4_LV.nii.gz", "pat4_PA.nii.gz", "pat4_LV.stl", "pat4_PA.stl"),
        *("pat4_blood_pool.stl", "pat4_heart.glb"),
    }
    numbers = json.loads((tmp_path / "pat4.json").read_text())
    assert list(numbers["structures"]) == ["LV", "PA"]
    left = numbers["structures"]["LV"]
    assert left["volume_ml_per_m2"] == pytest.approx(2 * result.volumes_ml["LV"], abs=2e-4)
    assert left["surface_area_mm2"] > 0
    with pytest.raises(DataError, match=r"body surface area: expected 0\.05 to 4 m2, got 40"):
        result.save(tmp_path / "other", bsa_m2=40)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("file_name", ["scan_preview.png", "volumes.csv", ".heartseg.json"])
def test_what_a_full_disk_interrupted_is_saved_by_the_next_call(segmenter, tmp_path, file_name):
    result = heartseg.segment((IMAGE, SCAN.affine), model=segmenter)

    with full_disk(file_name), pytest.raises(DataError, match=r"cannot be written \(No space left"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out")

    assert list_visible(tmp_path / "out") == [
        "scan.json",
        "scan_preview.png",
        "scan_seg.nii.gz",
        "volumes.csv",
    ]


def test_saving_keeps_what_is_there(segmenter, scan_file, tmp_path):
    result = heartseg.segment((IMAGE, SCAN.affine), model=segmenter)
    folder = tmp_path / "out"

    result.save(str(folder))
    with pytest.raises(DataError, match=r"scan_seg\.nii\.gz: already exists; pass overwrite=True"):
        result.save(folder)
    result.save(folder, overwrite=True)
    heartseg.segment(scan_file, model=segmenter).save(folder)
    (folder / "drawn_seg.nii.gz").write_bytes(b"by hand")
    with pytest.raises(DataError, match=r"no record that `heartseg infer` made this file"):
        result.save(folder, name="drawn", overwrite=True)
    assert (folder / "drawn_seg.nii.gz").read_bytes() == b"by hand"
    result.save(folder, name="other", formats=["preview"])

    with (folder / "volumes.csv").open(newline="") as stream:
        cases = [row["case"] for row in csv.DictReader(stream)]
    assert cases == ["other"] * 8 + ["pat4"] * 8 + ["scan"] * 8
    assert not (folder / "other_seg.nii.gz").exists()
    with pytest.raises(DataError, match=r"name: expected a file name without folders, found 'a/b'"):
        result.save(folder, name="a/b")
    with pytest.raises(ConfigError, match=r"formats: expected output formats .* found stl"):
        result.save(folder, formats=["stl"])


def test_progress_reaches_the_callable(segmenter, run_dir):
    reports = []

    heartseg.segment(
        (IMAGE, SCAN.affine), model=run_dir, report=lambda *progress: reports.append(progress)
    )

    assert reports[0] == (0, 1, "loading the model")
    assert reports[1:] == [(i, 9, f"slice {i} of 9") for i in range(1, 10)]


def test_what_is_wrong_with_the_intensities_is_a_notice(segmenter, capfd):
    image = IMAGE.copy()
    image[0, 0, :3] = np.nan

    result = heartseg.segment((image, SCAN.affine), model=segmenter)

    [notice] = result.notices
    assert notice.startswith("scan: ")
    assert "not finite" in notice
    assert np.isnan(image[0, 0, :3]).all()
    assert capfd.readouterr() == ("", "")


def test_an_image_of_another_format_keeps_its_grid(segmenter, tmp_path):
    file = tmp_path / "scan.mgz"
    nibabel.save(nibabel.MGHImage(IMAGE, SCAN.affine.astype(np.float32)), file)

    result = heartseg.segment(nibabel.load(file), model=segmenter)

    plain = heartseg.segment((IMAGE, SCAN.affine), model=segmenter)
    np.testing.assert_array_equal(result.labels, plain.labels)
    np.testing.assert_allclose(result.image.affine, SCAN.affine, atol=1e-5)
    assert isinstance(result.image, nibabel.Nifti1Image)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ("gone.nii.gz", r"gone\.nii\.gz: no such file"),
        (IMAGE, r"scan: expected a path, a nibabel image or \(array, affine\), found numpy\.nd"),
        ((IMAGE[0], SCAN.affine), r"scan: expected a 3D volume, found the shape \(11, 9\)"),
        ((IMAGE, SCAN.affine[:3]), r"affine: expected the shape \(4, 4\), found \(3, 4\)"),
        ((IMAGE, "RAS"), r"affine: expected a \(4, 4\) array"),
        ((IMAGE, np.zeros((4, 4))), r"scan: the affine .* is singular"),
        ((IMAGE > 0.5, SCAN.affine[::-1]), r"scan: the affine .* is singular"),
        ((IMAGE.astype(complex), SCAN.affine), r"scan: expected real numbers"),
        ((np.full(IMAGE.shape, np.nan), SCAN.affine), r"scan: .*finite"),
        (([[1], [1, 2]], SCAN.affine), r"scan: expected an array"),
    ],
)
def test_a_scan_that_cannot_be_used_is_refused_in_words(scan, message, segmenter):
    with pytest.raises(DataError, match=message):
        heartseg.segment(scan, model=segmenter)


def test_a_broken_image_is_an_error_with_its_file(scan_file, segmenter):
    scan_file.write_bytes(scan_file.read_bytes()[:-900])

    with pytest.raises(heartseg.HeartsegError, match=r"pat4_cropped_norm\.nii\.gz: "):
        heartseg.segment(nibabel.load(scan_file), model=segmenter)


def test_a_scan_that_the_model_refuses_is_named(scan_file):
    class Refusing:
        model = heartseg.load_segmenter().model

        def segment(self, image, *, absent, report):
            raise DataError("found no heart")

    with pytest.raises(DataError, match=r"pat4_cropped_norm\.nii\.gz: found no heart"):
        heartseg.segment(scan_file, model=Refusing())


def test_a_run_is_applied_as_its_configuration_says_and_a_file_by_default(run_dir):
    run = heartseg.load_segmenter(str(run_dir))
    file = heartseg.load_segmenter(run_dir / "best.keras")

    assert (run.batch_size, run.largest_component) == (3, True)
    assert (file.batch_size, file.largest_component) == (8, False)
    assert run.model.table == HVSMR


def test_a_model_that_cannot_be_used_is_refused_in_words(tmp_path):
    with pytest.raises(DataError, match=r"best\.keras: no such file; run `heartseg train` first"):
        heartseg.load_segmenter(tmp_path)
    with pytest.raises(ModelError, match=r"gone\.keras: expected a model .*, found no such file"):
        heartseg.load_segmenter(tmp_path / "gone.keras")
    with pytest.raises(ModelError, match=r"model: expected 'packaged', .* found builtins\.int"):
        heartseg.segment((IMAGE, SCAN.affine), model=3)


@pytest.mark.skipif(not is_installed(), reason="no trained model is packaged yet")
def test_the_packaged_model_is_loaded_once():
    assert heartseg.load_segmenter() is heartseg.load_segmenter("packaged")


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="no trained model is packaged yet")
def test_a_real_heart_from_an_empty_folder_with_nothing_printed(hvsmr2, tmp_path):
    scan = hvsmr2 / "cropped_norm" / "pat4_cropped_norm.nii.gz"
    reference = hvsmr2 / "cropped_norm" / "pat4_cropped_seg.nii.gz"
    (tmp_path / "empty").mkdir()
    script = f"""
import heartseg
result = heartseg.segment({str(scan)!r})
result.save({str(tmp_path / "api")!r})
assert list(result.stability) == list(result.volumes_ml) == [s.key for s in heartseg.LABELS][1:]
assert min(result.stability.values()) > 0.8, result
# Whether the model learned from this patient depends on the weights that are packaged.
assert all("has seen this patient" in notice for notice in result.notices), result
scores = heartseg.score(result.image, {str(reference)!r})
assert scores.rows()[-1]["structure"] == "whole_heart"
assert scores.rows()[-1]["dice"] > 0.85, scores.rows()[-1]
"""

    ran = run_python(script, tmp_path / "empty")

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert list((tmp_path / "empty").iterdir()) == []
    run_infer(None, [scan], output_dir=tmp_path / "command")
    assert read_tree(tmp_path / "api") == read_tree(tmp_path / "command")


def shifted_square():
    """Two squares of 64 voxels each, of which they share 32."""
    reference, prediction = np.zeros((2, 8, 9, 10), np.uint8)
    reference[2:6, 2:6, 2:6] = 1
    prediction[2:6, 2:6, 4:8] = 1
    return prediction, reference


def row_of(scores, structure, scope="full"):
    [row] = [r for r in scores.rows() if (r["structure"], r["scope"]) == (structure, scope)]
    return row


def test_scores_of_a_shifted_square_match_the_hand_count():
    prediction, reference = shifted_square()

    scores = heartseg.score(prediction, reference, spacing_mm=(1, 1, 1.5), case="square")

    row = row_of(scores, "LV")
    assert tuple(row) == COLUMNS
    assert row["case"] == "square"
    assert row["dice"] == 0.5
    assert row["iou"] == pytest.approx(32 / 96)
    assert row["volume_reference_ml"] == pytest.approx(64 * 1.5 / 1000)
    # The far faces are two voxels of 1.5 mm apart.
    assert row["hd95_mm"] == pytest.approx(3)
    assert np.isnan(row_of(scores, "RV")["dice"])
    assert row_of(scores, "RV")["flag"] == "absent"
    assert len(scores.rows()) == 9


def test_paths_images_and_arrays_have_the_same_scores(tmp_path):
    affine = make_affine("LPS", (1.0, 1.0, 1.5))
    arrays = [*shifted_square(), np.zeros((8, 9, 10), np.uint8)]
    arrays[2][2:6, 2:6, 6:8] = 1
    files = [
        write_nifti(tmp_path / f"{name}.nii.gz", array.astype(np.float32), affine)
        for name, array in zip(("prediction", "pat4", "zones"), arrays, strict=True)
    ]
    options = {"tolerance_mm": 1.0, "case": "a"}

    expected = heartseg.score(*arrays, spacing_mm=(1, 1, 1.5), **options).rows()

    for given in (
        files,
        [str(file) for file in files],
        [nibabel.load(file) for file in files],
        [arrays[0].tolist(), files[1], nibabel.load(files[2])],
        [files[0], np.asfortranarray(arrays[1]), arrays[2]],
    ):
        rows = heartseg.score(*given, **options).rows()
        for row, wanted in zip(rows, expected, strict=True):
            assert row == pytest.approx(wanted, nan_ok=True)
    assert row_of(heartseg.score(*files), "LV", "required")["dice"] == pytest.approx(2 * 32 / 96)
    assert heartseg.score(*files).rows()[0]["case"] == "pat4"


def test_label_maps_that_cannot_be_scored_are_refused_in_words(tmp_path):
    prediction, reference = shifted_square()
    ones = {"spacing_mm": (1, 1, 1)}
    image = nibabel.Nifti1Image(reference, np.eye(4))
    moved = nibabel.Nifti1Image(prediction, make_affine("RAS", (1, 1, 1), (1, 0, 0)))

    def refuse(message, *maps, **options):
        with pytest.raises(DataError, match=message):
            heartseg.score(*maps, **options)

    refuse(r"spacing_mm: arrays have no spacing; pass", prediction, reference)
    refuse(r"spacing_mm: expected three positive numbers", prediction, reference, spacing_mm=1.0)
    refuse(r"spacing_mm: is for arrays", prediction, image, **ones)
    refuse(r"prediction: lies up to 1 mm away from reference", moved, image)
    refuse(r"prediction: shape .* differs from the shape", prediction[1:], reference, **ones)
    refuse(r"endpoints: shape .* differs", prediction, reference, reference[:2], **ones)
    refuse(r"prediction: expected a 3D volume, found", prediction[0], reference, **ones)
    refuse(r"reference: expected whole numbers as labels", prediction, reference / 2, **ones)
    refuse(r"prediction: expected label values 0 to 8, found 9", prediction * 9, reference, **ones)
    refuse(r"gone\.nii: no such file", prediction, tmp_path / "gone.nii")
    refuse(r"tolerance_mm: expected a positive", prediction, reference, tolerance_mm=0, **ones)
    table = LabelTable(HVSMR.structures[:2])
    refuse(r"found 3", prediction * 3, reference, table=table, **ones)


def test_a_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    scores = heartseg.score(*shifted_square(), spacing_mm=(1, 1, 1))

    with pytest.raises(MissingPackageError, match=r"to_frame needs pandas.*pip install pandas"):
        scores.to_frame()
    assert issubclass(MissingPackageError, ImportError)
    assert issubclass(MissingPackageError, heartseg.HeartsegError)


def test_a_frame_has_the_columns_of_the_table():
    import pandas as pd

    scores = heartseg.score(*shifted_square(), spacing_mm=(1, 1, 1))

    frame = scores.to_frame()

    assert isinstance(frame, pd.DataFrame)
    assert tuple(frame.columns) == COLUMNS
    assert frame.set_index("structure").loc["LV", "dice"] == 0.5


def test_the_example_of_a_score_is_right():
    results = doctest.testmod(scoring)
    assert (results.attempted > 0, results.failed) == (True, 0)
