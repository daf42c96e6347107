"""`infer` on DICOM, NRRD, MetaImage and MGH: results, the DICOM SEG, and what nobody may read."""

import csv
import gzip
import shutil
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from builders import list_visible, make_config, make_scan, read_tree, rotate, write_nifti
from dicom_builders import (
    IDENTITY,
    SECRETS,
    ds,
    make_classic,
    make_enhanced,
    save,
    write_archive,
    write_classic,
)
from itk_images import write_itk
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from typer.testing import CliRunner

import heartseg
from heartseg.cli.app import app
from heartseg.config.loading import write_config
from heartseg.errors import BatchError, ConfigError, DataError
from heartseg.exchange.dicom_seg import read_dicom_seg
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.networks.unet import build_unet
from heartseg.pipelines.infer import run_infer
from heartseg.scans import dicom_files
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.reading import read_scan
from heartseg.scans.volume import read_image, read_label_map
from heartseg.slices.recipe import SliceRecipe

SCAN = make_scan((14, 12, 11), axes="LPS")
AFFINE = rotate(SCAN.affine)
# Noise, of which a random network makes several structures.
VOXELS = np.random.default_rng(3).integers(0, 1500, (14, 12, 11)).astype(np.int16)
FORMATS = ("nrrd", "mha", "mgz", "series", "enhanced", "zipped", "above")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run on slices whose model is a small random network."""
    folder = tmp_path_factory.mktemp("project")
    config = make_config(folder, {"model": {"num_layers": 2, "image_channels": 1}})
    recipe = SliceRecipe(
        image_height=32, image_width=24, image_channels=1, window="percentile", window_range=(0, 99)
    )
    model = build_unet(image_size=(32, 24), image_channels=1, num_layers=2, base_filters=4, seed=5)
    labels = [
        {"value": s.value, "key": s.key, "name": s.name, "color": list(s.color)}
        for s in HVSMR.structures
    ]
    config.run_dir.mkdir()
    metadata = {"recipe": recipe.to_dict(), "labels": labels}
    save_model(model, config.run_dir / "best.keras", metadata)
    write_config(config, config.run_dir / "config.yaml")
    return config


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """One scan in every format; in DICOM also with a segmentation and a picture beside it."""
    folder = tmp_path_factory.mktemp("scans")
    write_nifti(folder / "plain.nii.gz", VOXELS, AFFINE)
    for suffix in ("nrrd", "mha"):
        write_itk(folder / f"{suffix}.{suffix}", VOXELS, AFFINE)
    nibabel.save(nibabel.MGHImage(VOXELS, AFFINE), folder / "mgz.mgz")
    write_classic(folder / "series", VOXELS, AFFINE)
    write_classic(folder / "above" / "deep" / "deeper", VOXELS, AFFINE)
    order = np.random.default_rng(1).permutation(VOXELS.shape[2]).tolist()
    save(make_enhanced(VOXELS, AFFINE, order=order), folder / "multi" / "enhanced.dcm")
    write_archive(folder / "zipped.zip", folder / "series")
    return folder


@pytest.fixture(scope="module")
def results(scans, config, tmp_path_factory):
    """What `infer` makes of all of them."""
    folder = tmp_path_factory.mktemp("out")
    inputs = [scans, *(scans / name for name in ("series", "above", "multi/enhanced.dcm"))]
    result = run_infer(config, inputs, output_dir=folder)
    assert result.num_volumes == len(FORMATS) + 1
    return folder


def with_outputs(config, *outputs):
    """Return the configuration with other output formats."""
    return config.model_copy(update={"infer": config.infer.model_copy(update={"outputs": outputs})})


def bring_in_line(volume, affine):
    """Return voxels along the axes of another affine."""
    turn = ornt_transform(io_orientation(volume.affine), io_orientation(affine))
    return apply_orientation(volume.voxels, turn)


def volumes_of(folder):
    with (folder / "volumes.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        case: [(r["structure"], r["voxels"], r["volume_ml"]) for r in rows if r["case"] == case]
        for case in {row["case"] for row in rows}
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_the_results_of_nifti(results, scans, name):
    plain = read_label_map(results / "plain_seg.nii.gz", HVSMR)
    found = read_label_map(results / f"{name}_seg.nii.gz", HVSMR)

    assert len(np.unique(plain.voxels)) > 2
    np.testing.assert_array_equal(bring_in_line(found, plain.affine), plain.voxels)
    assert fingerprint_labels(found) == fingerprint_labels(plain)
    np.testing.assert_allclose(
        np.abs(np.linalg.det(found.affine)), np.abs(np.linalg.det(AFFINE)), rtol=1e-5
    )
    assert (results / f"{name}_preview.png").is_file()
    volumes = volumes_of(results)
    assert volumes[name] == volumes["plain"]


def test_the_label_map_lies_on_the_grid_of_the_scan(results, scans):
    for name, path in (("series", "series"), ("nrrd", "nrrd.nrrd"), ("mgz", "mgz.mgz")):
        scan, labels = read_scan(scans / path), nibabel.load(results / f"{name}_seg.nii.gz")
        assert labels.shape == scan.voxels.shape
        np.testing.assert_allclose(labels.affine, scan.affine, rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", ["series", "multi/enhanced.dcm", "zipped.zip"])
def test_a_dicom_seg_refers_to_the_series_and_holds_every_voxel(scans, config, tmp_path, path):
    with_seg = with_outputs(config, "label_map", "preview", "dicom_seg")
    run_infer(with_seg, [scans / path], output_dir=tmp_path)

    name = Path(path).stem
    assert set(list_visible(tmp_path)) == {
        f"{name}.seg.dcm",
        f"{name}_preview.png",
        f"{name}_seg.nii.gz",
        "volumes.csv",
    }
    labels = read_label_map(tmp_path / f"{name}_seg.nii.gz", HVSMR)
    found = read_dicom_seg(tmp_path / f"{name}.seg.dcm", HVSMR, like=read_scan(scans / path))
    np.testing.assert_array_equal(found.voxels, labels.voxels)
    # An independent reader counts the same voxels of each segment.
    segmentation = highdicom.seg.segread(tmp_path / f"{name}.seg.dcm")
    values = segmentation.get_volume(combine_segments=True).array
    counted = np.bincount(values.ravel(), minlength=9)[1:]
    np.testing.assert_array_equal(counted, np.bincount(labels.voxels.ravel(), minlength=9)[1:])
    if path == "series":
        images = read_images(scans / path)
        assert {segmentation.StudyInstanceUID} == {image.StudyInstanceUID for image in images}
        [reference] = segmentation.ReferencedSeriesSequence
        assert reference.SeriesInstanceUID == images[0].SeriesInstanceUID


def read_images(folder):
    import pydicom

    return [pydicom.dcmread(file, stop_before_pixels=True) for file in sorted(folder.iterdir())]


def test_a_dicom_seg_of_what_is_no_dicom_is_an_error_before_any_work(scans, config, tmp_path):
    message = r"plain\.nii\.gz: expected a DICOM series, to which the output format dicom_seg \(--"
    with pytest.raises(DataError, match=message):
        run_infer(
            with_outputs(config, "label_map", "dicom_seg"),
            [scans / "series", scans / "plain.nii.gz"],
            output_dir=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_a_dicom_seg_of_pictures_is_an_error(config, tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(
        ConfigError, match=r"infer\.outputs: dicom_seg is written of scans, and all inputs"
    ):
        run_infer(with_outputs(config, "dicom_seg"), [tmp_path / "a.png"])
    with pytest.raises(DataError, match=r"a\.png: a series can be chosen in DICOM only"):
        run_infer(config, [tmp_path / "a.png"], series=3)


@pytest.fixture
def exam(tmp_path):
    """An examination of two series."""
    for number, part in ((3, slice(None)), (8, slice(0, 6))):
        write_classic(
            tmp_path / "exam" / str(number),
            VOXELS[:, :, part],
            AFFINE,
            SeriesNumber=number,
            SeriesDescription=f"heart {number}",
            SeriesInstanceUID=f"1.2.3.{number}",
        )
    return tmp_path / "exam"


def test_of_several_series_one_is_chosen_by_its_number(exam, config, tmp_path):
    spacing = " x ".join(f"{step:.2f}" for step in np.linalg.norm(AFFINE[:3, :3], axis=0))
    with pytest.raises(DataError, match="exam: holds 2 series; choose one by its number") as error:
        run_infer(config, [exam], output_dir=tmp_path / "out")
    assert f'series 3 "heart 3", 11 slices, {spacing} mm' in str(error.value)
    assert f'series 8 "heart 8", 6 slices, {spacing} mm' in str(error.value)
    assert not (tmp_path / "out").exists()

    run_infer(config, [exam], output_dir=tmp_path / "out", series=8)
    assert nibabel.load(tmp_path / "out" / "exam_seg.nii.gz").shape == (14, 12, 6)
    with pytest.raises(DataError, match="exam: holds no series 4; it holds:"):
        run_infer(config, [exam], output_dir=tmp_path / "out", series=4)


def test_a_series_of_a_file_that_is_no_dicom_is_an_error_and_the_others_are_done(
    scans, exam, config, tmp_path
):
    with pytest.raises(BatchError, match="1 of 2 inputs") as error:
        run_infer(config, [scans / "mha.mha", exam], output_dir=tmp_path / "out", series=3)
    [problem] = error.value.problems
    assert problem == f"{scans / 'mha.mha'}: a series can be chosen in DICOM only"
    assert (tmp_path / "out" / "exam_seg.nii.gz").is_file()


def test_python_reads_and_segments_the_same(scans, results, config, exam, tmp_path):
    image = heartseg.read_scan(scans / "series")
    np.testing.assert_array_equal(image.get_fdata(), VOXELS)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-4)
    assert heartseg.read_scan(str(exam), series=8).shape == (14, 12, 6)

    model = heartseg.load_segmenter(config.run_dir)
    result = heartseg.segment(scans / "series", model=model)
    labels = read_label_map(results / "series_seg.nii.gz", HVSMR)
    np.testing.assert_array_equal(result.labels, labels.voxels)
    [file] = result.save(tmp_path / "out", formats=["dicom_seg"])
    assert file.name == "series.seg.dcm"
    assert heartseg.segment(exam, model=model, series=8).labels.shape == (14, 12, 6)
    scores = heartseg.score(file, results / "plain_seg.nii.gz")
    assert {row["dice"] for row in scores.rows() if row["volume_reference_ml"]} == {1.0}
    with pytest.raises(DataError, match="plain: expected a DICOM series"):
        heartseg.segment(scans / "plain.nii.gz", model=model).save(
            tmp_path / "none", formats=["label_map", "dicom_seg"]
        )
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match="series: can be chosen in DICOM only"):
        heartseg.segment(image, model=model, series=3)


def infer_by_terminal(*arguments):
    return CliRunner().invoke(app, ["infer", *map(str, arguments)])


OUTPUTS = "infer.outputs=[label_map,preview,report,slicer,split,movie_gif]"


@pytest.mark.parametrize("folder", ["exam", "Doe_Jane 2024-02-29"])
def test_nobody_learns_from_the_results_whom_the_scan_shows(config, tmp_path, monkeypatch, folder):
    write_classic(tmp_path / "in" / folder, VOXELS, AFFINE)
    # So that the path that is typed names nobody.
    monkeypatch.chdir(tmp_path / "in" / folder)
    run = config.run_dir / "config.yaml"

    done = infer_by_terminal(
        *(run, ".", "--dicom-seg", "--output", tmp_path / "out", "--set", OUTPUTS),
        *("--log-file", tmp_path / "log.txt"),
    )

    assert done.exit_code == 0, done.output
    name = "exam" if folder == "exam" else "scan"
    written = read_tree(tmp_path / "out")
    assert f"{name}_seg.nii.gz" in written
    seg = written.pop(f"{name}.seg.dcm")
    for value in IDENTITY.values():
        assert value.encode() in seg
    said = [done.output, (tmp_path / "log.txt").read_text(), *written]
    assert done.stdout.count(f"{name}_seg.nii.gz") == 1
    assert not [secret for secret in SECRETS for text in said if secret in text.upper()]
    for file, content in written.items():
        plain = gzip.decompress(content) if file.endswith(".gz") else content
        for secret in (*IDENTITY.values(), "DOE^", "^JANE", "ID-4711", "2024-02-29", "20240229"):
            assert secret.encode() not in plain, (file, secret)
            assert secret.encode("utf-16-le") not in plain, (file, secret)


def cine(series):
    later = make_classic(VOXELS, AFFINE, TriggerTime="400")
    for image in series:
        image.TriggerTime = "40"
    return [*series, *later]


def shift(series):
    series[4].ImagePositionPatient = ds(
        np.array(series[4].ImagePositionPatient, float) + 0.3 * normal_step(series)
    )
    return series


def normal_step(series):
    first, second = (np.array(image.ImagePositionPatient, float) for image in series[:2])
    return second - first


def mosaic(series):
    for image in series:
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    return series


def again(series):
    return [*series, make_classic(VOXELS[:, :, ::-1], AFFINE)[5]]


REFUSED = {
    "cine": (cine, "it holds 2 images at each of 11 positions, phases of the heart beat (a cine)"),
    "mosaic": (mosaic, "its images are mosaics, which hold all slices of a time point"),
    "gap": (lambda series: series[:4] + series[5:], "slices are missing: between slices 4 and 5"),
    "uneven": (shift, "its slices are unequally spaced"),
    "twice": (again, "it holds up to 2 images at 1 of 11 positions"),
    "single": (lambda series: series[:1], "it holds a single slice; expected a volume"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_series_that_is_no_volume_is_refused_with_a_sentence_before_any_work(
    tmp_path, monkeypatch, kind
):
    monkeypatch.chdir(tmp_path)
    change, sentence = REFUSED[kind]
    for number, image in enumerate(change(make_classic(VOXELS, AFFINE))):
        save(image, tmp_path / "exam" / f"{number}.dcm")

    done = infer_by_terminal("exam", "--dicom-seg", "--log-file", "log.txt")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith('Error: exam: series 3 "whole heart": ')
    assert sentence in done.stderr
    assert not (tmp_path / "heartseg_output").exists()
    said = done.stderr + (tmp_path / "log.txt").read_text()
    assert not [secret for secret in SECRETS if secret in said]


def test_without_the_extra_the_message_says_what_to_install(scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    dicom_files.unreadable.cache_clear()

    done = infer_by_terminal(scans / "series")

    assert done.exit_code == 1
    assert "DICOM needs pydicom" in done.stderr
    assert "pip install 'heartseg[dicom]'" in done.stderr


def test_a_real_heart_has_the_same_labels_from_dicom_as_from_nifti(hvsmr2, config, tmp_path):
    original = read_image(hvsmr2 / "cropped_norm" / "pat58_cropped_norm.nii.gz")
    affine = original.affine
    slope = float(ds(original.voxels.max() / 60000)[0])
    stored = np.rint(original.voxels / slope).astype(np.uint16)
    plain = write_nifti(tmp_path / "plain.nii", (stored * slope).astype(np.float32), affine)
    scaling = {"RescaleSlope": ds(slope)[0], "RescaleIntercept": "0"}
    classic = write_classic(tmp_path / "classic", stored, affine, **scaling)
    frames = make_enhanced(stored, affine, scaling=[(slope, 0)] * stored.shape[2])
    enhanced = save(frames, tmp_path / "enhanced.dcm")

    out = tmp_path / "out"
    run_infer(with_outputs(config, "label_map"), [plain], output_dir=out)
    run_infer(with_outputs(config, "label_map", "dicom_seg"), [classic, enhanced], output_dir=out)

    expected = read_label_map(out / "plain_seg.nii.gz", HVSMR)
    assert len(np.unique(expected.voxels)) > 2
    for name, source in (("classic", classic), ("enhanced", enhanced)):
        found = read_label_map(out / f"{name}_seg.nii.gz", HVSMR)
        np.testing.assert_array_equal(bring_in_line(found, affine), expected.voxels)
        again = read_dicom_seg(out / f"{name}.seg.dcm", HVSMR, like=read_scan(source))
        np.testing.assert_array_equal(again.voxels, found.voxels)


@pytest.mark.parametrize("name", ["siemens_t1_sagittal", "ge_axial"])
def test_results_of_a_real_series_lie_where_dcm2niix_puts_it(dicom_data, config, tmp_path, name):
    shutil.copy(dicom_data / f"{name}.nii.gz", tmp_path / "plain.nii.gz")
    out = tmp_path / "out"
    run_infer(with_outputs(config, "label_map"), [tmp_path / "plain.nii.gz"], output_dir=out)
    run_infer(with_outputs(config, "label_map", "dicom_seg"), [dicom_data / name], output_dir=out)

    plain = read_label_map(tmp_path / "out" / "plain_seg.nii.gz", HVSMR)
    found = read_label_map(tmp_path / "out" / f"{name}_seg.nii.gz", HVSMR)
    np.testing.assert_array_equal(bring_in_line(found, plain.affine), plain.voxels)
    seg = tmp_path / "out" / f"{name}.seg.dcm"
    again = read_dicom_seg(seg, HVSMR, like=read_scan(dicom_data / name))
    np.testing.assert_array_equal(again.voxels, found.voxels)
