import csv
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from builders import full_disk, list_visible, read_tree

from heartseg.config.schema import Config
from heartseg.errors import BatchError, ConfigError, DataError, ModelError
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.networks.unet import build_unet
from heartseg.pipelines.infer import run_infer
from heartseg.scans.fingerprint import fingerprint_scan
from heartseg.scans.volume import read_image
from heartseg.slices.recipe import SliceRecipe
from heartseg.slices.store import read_mask

SIZE = 32
SLOW_MODULES = (
    "heartseg.surfaces.label_surfaces",
    "heartseg.measurements.shapes",
    "heartseg.pages.page_writer",
)
RECIPE = SliceRecipe(image_height=SIZE, image_width=SIZE, image_channels=1)
# Posterior, inferior, right, turned a little: an oblique scan of three distinct spacings.
AFFINE = np.array(
    [[0.0, 0.1, 0.9, -20.0], [-0.7, 0.05, 0.0, 15.0], [0.03, -0.8, 0.08, 40.0], [0, 0, 0, 1]]
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A run whose checkpoint is a small random network."""
    return write_model(tmp_path_factory.mktemp("run"), RECIPE)


def write_model(folder, recipe):
    model = build_unet(
        image_size=(SIZE, SIZE), image_channels=1, num_layers=2, base_filters=4, seed=5
    )
    labels = [
        {"value": s.value, "key": s.key, "name": s.name, "color": list(s.color)}
        for s in HVSMR.structures
    ]
    save_model(model, folder / "best.keras", {"recipe": recipe.to_dict(), "labels": labels})
    return folder


@pytest.fixture
def config(run_dir):
    return make_config(run_dir)


def make_config(run_dir, infer=None, prepare=None):
    return Config.model_validate(
        {
            "run_dir": run_dir,
            "prepare": {"image_width": SIZE, "image_height": SIZE, **(prepare or {})},
            "model": {"num_layers": 2, "image_channels": 1},
            "infer": {"batch_size": 3, **(infer or {})},
        }
    )


def write_picture(file, shape=(20, 30), seed=0):
    image = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), image)
    return file


def write_scan(file, shape=(14, 11, 9), seed=0, codes=(1, 1)):
    image = np.random.default_rng(seed).random(shape)
    nifti = nibabel.Nifti1Image(image, AFFINE)
    nifti.set_sform(AFFINE, code=codes[1])
    nifti.set_qform(AFFINE, code=codes[0], strip_shears=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nifti, file)
    return file


def read_rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_picture_becomes_a_colour_mask_of_its_size_and_an_overlay_on_request(run_dir, tmp_path):
    picture = write_picture(tmp_path / "in" / "slice.jpg")
    config = make_config(run_dir, {"overlay": True})

    result = run_infer(config, [picture], output_dir=tmp_path / "out")

    assert result.num_pictures == 1
    assert list_visible(tmp_path / "out") == [
        "slice.png",
        "slice_overlay.png",
    ]
    mask = cv2.imread(str(tmp_path / "out" / "slice.png"))[..., ::-1]
    assert mask.shape == (20, 30, 3)
    HVSMR.decode(mask)
    assert cv2.imread(str(tmp_path / "out" / "slice_overlay.png")).shape == (20, 30, 3)


def test_a_volume_becomes_a_label_map_on_its_grid_with_preview_and_volumes(config, tmp_path):
    scan = write_scan(tmp_path / "in" / "pat4_cropped_norm.nii.gz", codes=(1, 2))
    reports = []

    result = run_infer(
        config,
        [scan],
        output_dir=tmp_path / "out",
        report=lambda *progress: reports.append(progress),
    )

    assert list_visible(tmp_path / "out") == [
        "pat4.json",
        "pat4_preview.png",
        "pat4_seg.nii.gz",
        "volumes.csv",
    ]
    source, label_map = nibabel.load(scan), nibabel.load(tmp_path / "out" / "pat4_seg.nii.gz")
    labels = np.asarray(label_map.dataobj)
    assert labels.shape == (14, 11, 9)
    assert label_map.get_data_dtype() == np.uint8
    np.testing.assert_allclose(label_map.affine, source.affine, atol=1e-6)
    for form in ("qform", "sform"):
        old, new = (getattr(i, f"get_{form}")(coded=True) for i in (source, label_map))
        assert new[1] == old[1]
        np.testing.assert_allclose(new[0], old[0], atol=1e-5)
    assert "right ventricle" in label_map.header.extensions[0].get_content().decode()
    # Every structure has a row, and what the rows count is what the map holds.
    rows = read_rows(tmp_path / "out" / "volumes.csv")
    assert [row["structure"] for row in rows] == [s.key for s in HVSMR.foreground]
    voxel_ml = abs(np.linalg.det(AFFINE[:3, :3])) / 1000
    for value, row in enumerate(rows, 1):
        voxels = int((labels == value).sum())
        assert row["case"] == "pat4"
        assert int(row["voxels"]) == voxels
        assert float(row["volume_ml"]) == pytest.approx(voxels * voxel_ml, abs=1e-4)
        assert row["flags"] == ("truncated" if voxels else "absent")
    assert len(result.volumes) == 8
    assert reports[0] == (0, 1, "loading the model")
    assert reports[-2:] == [(0, 1, "pat4: slice 9 of 9"), (1, 1, "pat4")]


def test_the_files_of_a_volume_are_chosen_by_name(run_dir, tmp_path):
    scan = write_scan(tmp_path / "x.nii")
    config = make_config(run_dir, {"outputs": ["preview"], "movie": "gif"})

    run_infer(config, [scan], output_dir=tmp_path / "out")

    names = set(list_visible(tmp_path / "out"))
    assert names == {"x_preview.png", "x_overlay.gif", "volumes.csv"}
    with pytest.raises(ConfigError, match=r"infer\.outputs: .*label_map.*found label-map"):
        run_infer(make_config(run_dir, {"outputs": ["label-map"]}), [scan], output_dir=tmp_path)


def test_a_plain_call_loads_nothing_for_surfaces_and_pages(run_dir, tmp_path):
    scan = write_scan(tmp_path / "x.nii")
    names = ["skimage", "trimesh", "manifold3d", "jinja2", *SLOW_MODULES]
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from heartseg.config.schema import Config\n"
        "from heartseg.pipelines.infer import run_infer\n"
        f"config = Config.model_validate({make_config(run_dir).model_dump(mode='json')!r})\n"
        f"run_infer(config, [Path({str(scan)!r})], output_dir=Path({str(tmp_path / 'out')!r}))\n"
        f"print('LOADED', sorted(set({names!r}) & set(sys.modules)))\n"
    )

    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )

    assert ran.stdout.splitlines()[-1:] == ["LOADED []"], ran.stderr
    assert (tmp_path / "out" / "x.json").is_file()


def test_numbers_of_one_patient_are_for_one_volume(run_dir, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii", seed=seed) for seed, name in enumerate("ab")]
    settings = {"height_cm": 180, "weight_kg": 80, "outputs": ["numbers"]}
    config = make_config(run_dir, settings)

    with pytest.raises(
        ConfigError, match=r"infer\.height_cm: is of one patient, and there are 2 v"
    ):
        run_infer(config, scans, output_dir=tmp_path / "out")
    result = run_infer(config, scans[:1], output_dir=tmp_path / "out")

    assert list_visible(tmp_path / "out") == ["a.json", "volumes.csv"]
    for row in result.volumes:
        # 180 cm and 80 kg give 2 m2.
        assert row.volume_ml_per_m2 == pytest.approx(row.volume_ml / 2, abs=1e-4)
    with pytest.raises(DataError, match=r"height: expected 30 to 250 cm, got 1\.8"):
        run_infer(make_config(run_dir, {"height_cm": 1.8, "weight_kg": 80}), scans[:1])


def test_a_subset_of_structures_holds_for_volumes_and_pictures(run_dir, tmp_path):
    picture, scan = write_picture(tmp_path / "p.png"), write_scan(tmp_path / "x.nii")
    run_infer(make_config(run_dir), [picture, scan], output_dir=tmp_path / "all")
    config = make_config(run_dir, {"structures": ["la", "RV"], "outputs": ["label_map"]})

    result = run_infer(config, [picture, scan], output_dir=tmp_path / "some")

    assert [row.structure for row in result.volumes] == ["RV", "LA"]
    whole, part = (
        np.asarray(nibabel.load(tmp_path / folder / "x_seg.nii.gz").dataobj)
        for folder in ("all", "some")
    )
    np.testing.assert_array_equal(part, np.where(np.isin(whole, [2, 3]), whole, 0))
    masks = (read_mask(tmp_path / folder / "p.png", HVSMR) for folder in ("all", "some"))
    whole, part = masks
    np.testing.assert_array_equal(part, np.where(np.isin(whole, [2, 3]), whole, 0))
    with pytest.raises(DataError, match=r"structures: expected some of LV, RV, .* found XY"):
        run_infer(make_config(run_dir, {"structures": ["XY"]}), [scan])


def test_the_configuration_chooses_the_colours_that_people_see(run_dir, tmp_path, caplog):
    scan = write_scan(tmp_path / "x.nii")
    config = make_config(run_dir, {})
    left, *others = (entry for entry in config.labels if entry.value)
    shown = left.model_copy(update={"display_color": (12, 34, 56)})
    config = config.model_copy(update={"labels": (config.labels[0], shown, *others)})

    run_infer(config, [scan], output_dir=tmp_path / "out")

    preview = cv2.imread(str(tmp_path / "out" / "x_preview.png"))[..., ::-1]
    # In the legend at least.
    assert (preview == (12, 34, 56)).all(axis=-1).sum() > 20
    assert (preview == (30, 165, 255)).all(axis=-1).sum() > 20
    assert "labels" not in caplog.text


def test_a_report_says_what_was_found_and_how(run_dir, tmp_path):
    scan = write_scan(tmp_path / "secret folder" / "x_cropped_norm.nii")
    config = make_config(run_dir, {"outputs": ["report"]})

    result = run_infer(config, [scan], output_dir=tmp_path / "out")

    page = (tmp_path / "out" / "x_report.html").read_text(encoding="utf-8")
    assert "<h1>x</h1>" in page
    assert "secret folder" not in page
    for row in result.volumes:
        if row.voxels:
            assert f'<td class="number">{row.volume_ml:.1f}</td>' in page
    shown = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    assert shown["Model"].startswith("best.keras")
    assert shown["Hash of the scan"] == fingerprint_scan(read_image(scan))
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC, heartseg .+", shown["Made"])
    assert shown["Device"]


@pytest.mark.parametrize("movie", ["webm", "gif", "mp4"])
def test_a_movie_shows_every_slice(run_dir, tmp_path, movie):
    scan = write_scan(tmp_path / "x.nii")
    config = make_config(run_dir, {"movie": movie})

    run_infer(config, [scan], output_dir=tmp_path / "out")

    frames = cv2.VideoCapture(str(tmp_path / "out" / f"x_overlay.{movie}"))
    count = 0
    while frames.read()[0]:
        count += 1
    assert count == 9


def test_labels_do_not_depend_on_the_batch_size(run_dir, tmp_path):
    scan = write_scan(tmp_path / "x.nii.gz", shape=(31, 29, 23))
    maps = []
    for batch_size in (1, 4, 64):
        config = make_config(run_dir, {"batch_size": batch_size})
        run_infer(config, [scan], output_dir=tmp_path / f"{batch_size}")
        maps.append(np.asarray(nibabel.load(tmp_path / f"{batch_size}" / "x_seg.nii.gz").dataobj))

    assert len(np.unique(maps[0])) > 1
    for other in maps[1:]:
        assert (other == maps[0]).mean() >= 0.9999


def test_the_same_call_gives_the_same_bytes(config, tmp_path):
    write_scan(tmp_path / "in" / "a.nii.gz")
    write_picture(tmp_path / "in" / "b.png")
    for name in ("one", "two"):
        run_infer(config, [tmp_path / "in"], output_dir=tmp_path / name)

    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_a_folder_of_the_data_set_gives_its_images_only(config, tmp_path):
    for case in ("pat10", "pat2"):
        for suffix in ("_cropped_norm", "_cropped_seg", "_cropped_seg_endpoints"):
            write_scan(tmp_path / "in" / f"{case}{suffix}.nii.gz")

    result = run_infer(config, [tmp_path / "in"], output_dir=tmp_path / "out")

    assert result.num_volumes == 2
    rows = read_rows(tmp_path / "out" / "volumes.csv")
    assert [row["case"] for row in rows] == ["pat2"] * 8 + ["pat10"] * 8


def test_results_in_the_folder_of_the_inputs_are_not_taken_for_inputs(run_dir, tmp_path):
    config = make_config(run_dir, {"outputs": ["label_map", "preview", "slicer", "split"]})
    write_scan(tmp_path / "scan.nii.gz")
    write_picture(tmp_path / "slice.jpg")

    first = run_infer(config, [tmp_path], output_dir=tmp_path)
    second = run_infer(config, [tmp_path], output_dir=tmp_path, overwrite=True)

    assert (first.num_volumes, first.num_pictures) == (1, 1)
    assert (second.num_volumes, second.num_pictures) == (1, 1)
    assert len(read_rows(tmp_path / "volumes.csv")) == 8


def test_without_input_the_configured_folder_is_segmented_into_the_run(run_dir, tmp_path):
    write_picture(tmp_path / "in" / "a.png")
    config = make_config(run_dir, {"images_dir": tmp_path / "in"})

    result = run_infer(config)

    assert result.output_dir == run_dir / "inference"
    assert (run_dir / "inference" / "a.png").is_file()


def test_bad_files_are_reported_at_the_end_and_the_others_are_done(config, tmp_path):
    folder = tmp_path / "in"
    for index in range(4):
        write_picture(folder / f"{index}.png", seed=index)
    (folder / "1.png").write_bytes(b"no picture")
    write_scan(folder / "good.nii.gz")
    broken = write_scan(folder / "broken.nii.gz")
    broken.write_bytes(broken.read_bytes()[:-400])

    with pytest.raises(BatchError, match="3 of 7 inputs") as caught:
        run_infer(config, [folder, tmp_path / "missing.png"], output_dir=tmp_path / "out")

    problems = "\n".join(caught.value.problems)
    assert all(name in problems for name in ("1.png", "broken.nii.gz", "missing.png"))
    names = set(list_visible(tmp_path / "out"))
    expected = {"0.png", "2.png", "3.png", "good_seg.nii.gz", "good_preview.png", "good.json"}
    assert names == expected | {"volumes.csv"}


def test_a_batch_of_which_nothing_was_done_names_no_results(config, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no picture")

    with pytest.raises(BatchError, match=r"^1 of 1 input could not be segmented\n"):
        run_infer(config, [tmp_path / "1.png"], output_dir=tmp_path / "out")


def test_an_input_that_is_too_large_for_the_recipe_is_named_and_the_others_are_done(
    tmp_path,
):
    fine = SliceRecipe(
        fit="pad", spacing_mm=0.0001, image_height=SIZE, image_width=SIZE, image_channels=1
    )
    write_model(tmp_path / "run", fine)
    pictures = [write_picture(tmp_path / "a.png"), write_picture(tmp_path / "b.png", (2, 9000))]
    scan = write_scan(tmp_path / "c.nii.gz")

    with pytest.raises(BatchError) as caught:
        run_infer(make_config(tmp_path / "run"), [*pictures, scan], output_dir=tmp_path / "out")

    problems = caught.value.problems
    assert len(problems) == 2
    assert "b.png: " in problems[0]
    assert "c.nii.gz: " in problems[1]
    assert list_visible(tmp_path / "out") == ["a.png"]


def test_volumes_of_earlier_calls_are_kept(config, tmp_path):
    for name in ("b", "a"):
        scan = write_scan(tmp_path / f"{name}.nii.gz")
        run_infer(config, [scan], output_dir=tmp_path / "out")

    cases = [row["case"] for row in read_rows(tmp_path / "out" / "volumes.csv")]
    assert cases == ["a"] * 8 + ["b"] * 8


def test_results_are_replaced_only_when_asked(config, tmp_path):
    picture = write_picture(tmp_path / "a.png")
    scan = write_scan(tmp_path / "v.nii.gz")
    run_infer(config, [picture, scan], output_dir=tmp_path / "out")
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns

    with pytest.raises(DataError, match=r"a\.png: already exists.*--overwrite"):
        run_infer(config, [scan, picture][::-1], output_dir=tmp_path / "out")
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == before

    run_infer(config, [picture, scan], output_dir=tmp_path / "out", overwrite=True)
    assert len(read_rows(tmp_path / "out" / "volumes.csv")) == 8


def test_an_interrupted_call_is_repeated_without_asking(config, tmp_path):
    pictures = [write_picture(tmp_path / f"{name}.png") for name in "abcd"]

    def interrupt(done, total, what):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_infer(config, pictures, output_dir=tmp_path / "out", report=interrupt)
    assert (tmp_path / "out" / "a.png").is_file()

    result = run_infer(config, pictures, output_dir=tmp_path / "out")

    assert result.num_pictures == 4
    names = list_visible(tmp_path / "out")
    assert names == ["a.png", "b.png", "c.png", "d.png"]


def label_maps_and_rows(folder):
    """Return the cases that have a label map, and those that have rows in the table."""
    label_maps = sorted(file.name[: -len("_seg.nii.gz")] for file in folder.glob("*_seg.nii.gz"))
    table = folder / "volumes.csv"
    return label_maps, sorted({row["case"] for row in read_rows(table)} if table.is_file() else ())


@pytest.mark.parametrize("file_name", ["a_seg.nii.gz", "a_preview.png", "a.json"])
def test_a_scan_whose_files_cannot_all_be_written_has_none_and_is_done_by_the_next_call(
    config, tmp_path, file_name
):
    scans, out = [write_scan(tmp_path / f"{name}.nii") for name in "ab"], tmp_path / "out"

    with full_disk(file_name), pytest.raises(BatchError) as caught:
        run_infer(config, scans, output_dir=out)
    [problem] = caught.value.problems
    assert problem == f"{out / file_name}: cannot be written (No space left on device)"
    assert label_maps_and_rows(out) == (["b"], ["b"])
    assert [name for name in list_visible(out) if name.startswith("a")] == []

    run_infer(config, scans[:1], output_dir=out)
    assert label_maps_and_rows(out) == (["a", "b"], ["a", "b"])
    assert (out / "a.json").is_file()
    assert not (out / "UNFINISHED").exists()


def test_results_that_cannot_all_be_replaced_stay_as_they_are(run_dir, config, tmp_path):
    scan, out = write_scan(tmp_path / "a.nii"), tmp_path / "out"
    run_infer(config, [scan], output_dir=out)
    before = read_tree(out)
    other = make_config(run_dir, {"structures": ["LV"]})

    with full_disk("a.json"), pytest.raises(BatchError):
        run_infer(other, [scan], output_dir=out, overwrite=True)
    assert read_tree(out) == before

    run_infer(other, [scan], output_dir=out, overwrite=True)
    assert {row["structure"] for row in read_rows(out / "volumes.csv")} == {"LV"}


def test_label_maps_whose_table_cannot_be_written_are_done_again_by_the_next_call(config, tmp_path):
    first, second = ([write_scan(tmp_path / f"{name}.nii")] for name in "ab")
    out = tmp_path / "out"

    with full_disk("volumes.csv"), pytest.raises(DataError, match=r"volumes\.csv: .*No space left"):
        run_infer(config, first, output_dir=out)
    assert label_maps_and_rows(out) == (["a"], [])
    # A call for another scan does not make anybody forget that one.
    run_infer(config, second, output_dir=out)
    assert "a_seg.nii.gz" in (out / "UNFINISHED").read_text().splitlines()

    run_infer(config, first, output_dir=out)
    assert label_maps_and_rows(out) == (["a", "b"], ["a", "b"])
    assert not (out / "UNFINISHED").exists()


def test_two_inputs_with_one_result_are_an_error_before_any_work(config, tmp_path):
    first = write_picture(tmp_path / "one" / "a.png")
    second = write_picture(tmp_path / "two" / "A.jpg")

    with pytest.raises(DataError, match=r"A\.jpg: its result A\.png .*a\.png"):
        run_infer(config, [first, second], output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_is_never_replaced(config, tmp_path):
    picture = write_picture(tmp_path / "a.png")

    with pytest.raises(DataError, match="is an input"):
        run_infer(config, [picture], output_dir=tmp_path, overwrite=True)


def test_the_checkpoint_wins_over_the_configuration_and_says_so(run_dir, tmp_path, caplog):
    scan = write_scan(tmp_path / "x.nii.gz")
    run_infer(make_config(run_dir), [scan], output_dir=tmp_path / "one")
    other = make_config(run_dir, prepare={"plane": "axial", "window_range": [0, 2]})

    with caplog.at_level(logging.WARNING):
        run_infer(other, [scan], output_dir=tmp_path / "two")

    assert "prepare.plane, prepare.window_range" in caplog.text
    one, two = (tmp_path / name / "x_seg.nii.gz" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_setting_that_the_model_would_ignore_is_refused(run_dir, tmp_path):
    scan = write_scan(tmp_path / "x.nii.gz")
    # No network is described, so which kind the run has is known from its file only.
    config = Config.model_validate({"run_dir": run_dir, "infer": {"second_stage": False}})

    with pytest.raises(ConfigError, match=r"infer\.second_stage: .*is of model\.kind: slices"):
        run_infer(config, [scan], output_dir=tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "is_scan", "message"),
    [
        ({"overlay": True}, True, "infer.overlay: draws over pictures, and all inputs are volumes"),
        ({"movie": "gif"}, False, "infer.movie: shows volumes, and all inputs are pictures"),
        ({"diameters": True}, False, "infer.diameters: measures volumes, and all inputs are pic"),
        ({"outputs": ["report"]}, False, "infer.outputs: report is written of scans, and all inp"),
    ],
)
def test_a_setting_that_no_input_can_use_is_refused(run_dir, tmp_path, settings, is_scan, message):
    file = write_scan(tmp_path / "x.nii") if is_scan else write_picture(tmp_path / "x.png")

    with pytest.raises(ConfigError, match=re.escape(message)):
        run_infer(make_config(run_dir, settings), [file], output_dir=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_overlays_beside_movies_are_refused_where_the_model_takes_no_pictures(tmp_path):
    recipe = replace(RECIPE, context=1)
    model = {"num_layers": 2, "image_channels": 1, "context": 1}
    config = make_config(
        write_model(tmp_path, recipe), {"overlay": True, "movie": "gif"}, {"keep_empty": True}
    )
    config = Config.model_validate({**config.model_dump(mode="json"), "model": model})

    with pytest.raises(ConfigError, match=r"infer\.overlay: draws over pictures"):
        run_infer(config, [write_scan(tmp_path / "x.nii")], output_dir=tmp_path / "out")


def test_what_is_missing_is_named_before_the_model_is_loaded(run_dir, tmp_path):
    config = make_config(run_dir)
    with pytest.raises(DataError, match="nothing to segment"):
        run_infer(config)
    with pytest.raises(DataError, match=r"best\.keras.*heartseg train"):
        run_infer(make_config(tmp_path / "untrained"), [tmp_path])
    with pytest.raises(DataError, match=r"gone\.nii\.gz: no such file"):
        run_infer(config, [tmp_path / "gone.nii.gz"])
    with pytest.raises(DataError, match=r"expected files that end in \.png, .*, found none"):
        run_infer(config, [tmp_path])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x.nii.gz", "a scan"),
        ("notes.txt", "a file of another kind"),
        ("gone.keras", "no such file"),
        ("gone.onnx", "no such file"),
    ],
)
def test_what_is_no_model_is_refused_with_the_kinds_of_model_and_what_it_is(tmp_path, name, found):
    scan = write_scan(tmp_path / "x.nii.gz")
    (tmp_path / "notes.txt").touch()
    kinds = r"a \.keras file, an \.onnx file of `heartseg export`, or the folder of a run or study"

    with pytest.raises(ModelError, match=rf"{name}: expected a model \({kinds}\), found {found}$"):
        run_infer(None, [scan], model_file=tmp_path / name, output_dir=tmp_path / "out")


def test_a_model_may_be_named_by_its_file_or_by_the_folder_of_its_run(run_dir, tmp_path):
    scan = write_scan(tmp_path / "x.nii.gz")

    for number, model in enumerate((run_dir, run_dir / "best.keras")):
        run_infer(None, [scan], model_file=model, output_dir=tmp_path / str(number))

    label_maps = [(tmp_path / name / "x_seg.nii.gz").read_bytes() for name in "01"]
    assert label_maps[0] == label_maps[1]
    with pytest.raises(DataError, match=r"best\.keras: no such file; run `heartseg train` first"):
        run_infer(None, [scan], model_file=tmp_path, output_dir=tmp_path / "out")


def test_tiles_and_clean_up_are_applied_on_request(run_dir, tmp_path):
    scan = write_scan(tmp_path / "x.nii.gz", shape=(50, 45, 4))
    plain = make_config(run_dir)
    changed = make_config(run_dir, {"tiled": True, "largest_component": True})
    for name, config in (("plain", plain), ("changed", changed)):
        run_infer(config, [scan], output_dir=tmp_path / name)

    plain_labels, labels = (
        np.asarray(nibabel.load(tmp_path / name / "x_seg.nii.gz").dataobj)
        for name in ("plain", "changed")
    )
    assert (plain_labels != labels).any()


def test_a_real_scan_keeps_its_grid(config, hvsmr2, tmp_path):
    scan = hvsmr2 / "cropped_norm" / "pat4_cropped_norm.nii.gz"

    run_infer(config, [scan], output_dir=tmp_path / "out")

    source, label_map = nibabel.load(scan), nibabel.load(tmp_path / "out" / "pat4_seg.nii.gz")
    assert label_map.shape == source.shape
    np.testing.assert_array_equal(label_map.affine, source.affine)
    for form in ("qform_code", "sform_code", "xyzt_units"):
        assert label_map.header[form] == source.header[form]
    assert label_map.get_data_dtype() == np.uint8
