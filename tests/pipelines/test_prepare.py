import csv
import json

import numpy as np
import pytest
from builders import (
    list_visible,
    make_config,
    make_scan,
    read_tree,
    rotate,
    write_case,
    write_nifti,
)

from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.labels import HVSMR
from heartseg.pipelines.prepare import run_prepare
from heartseg.slices.manifest import read_manifest
from heartseg.slices.recipe import SliceRecipe
from heartseg.slices.store import read_color, read_gray

COLUMNS = [
    "file", "case", "slice", "plane", "source", "height", "width",
    "spacing_row_mm", "spacing_col_mm", "foreground",
]  # fmt: skip


@pytest.fixture
def volumes(tmp_path):
    """Three small cases; pat10 has its array axes elsewhere."""
    scans = {
        "pat10": make_scan(seed=1).turned("LAS"),
        "pat2": make_scan(seed=2),
        "pat1": make_scan(),
    }
    for name, scan in scans.items():
        write_case(tmp_path / "volumes", name, scan)
    return scans


def filled(scan):
    """Return the indices along the right-left axis whose slice holds a structure."""
    axis = int(np.abs(scan.affine[0, :3]).argmax())
    others = tuple(k for k in range(3) if k != axis)
    return np.flatnonzero((scan.labels > 0).any(axis=others))


def test_every_slice_with_a_structure_becomes_an_image_and_a_mask(tmp_path, volumes):
    result = run_prepare(make_config(tmp_path))

    master = tmp_path / "master"
    expected = {
        f"{name}_{index:03d}.png" for name, scan in volumes.items() for index in filled(scan)
    }
    assert {file.name for file in (master / "images").iterdir()} == expected
    assert {file.name for file in (master / "masks").iterdir()} == expected
    assert (result.num_cases, result.num_slices, result.num_written) == (3, *[len(expected)] * 2)
    names = set(list_visible(master))
    assert names >= {"manifest.csv", "statistics.png", "samples_images.png", "samples_masks.png"}
    assert not [name for name in names if name.startswith(".")]


def test_the_manifest_ties_each_slice_to_its_volume(tmp_path, volumes):
    run_prepare(make_config(tmp_path))

    with (tmp_path / "master" / "manifest.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == COLUMNS
    records = read_manifest(tmp_path / "master" / "manifest.csv")
    assert list(dict.fromkeys(r.case for r in records)) == ["pat1", "pat2", "pat10"]
    for record in records:
        scan = volumes[record.case]
        axis = int(np.abs(scan.affine[0, :3]).argmax())
        labels = scan.labels.take(record.slice, axis=axis)
        assert record.foreground == np.count_nonzero(labels)
        assert record.plane == "sagittal"
        assert record.source == f"{record.case}_cropped_norm.nii.gz"
        # Rows run inferior, columns anterior, whatever the file's axes: 11 x 14 of 1.5 x 0.8 mm.
        assert (record.height, record.width) == (11, 14)
        assert (record.spacing_row_mm, record.spacing_col_mm) == (1.5, 0.8)
        image = read_gray(tmp_path / "master" / "images" / record.file)
        mask = read_color(tmp_path / "master" / "masks" / record.file)
        assert image.shape == (32, 24)
        assert set(np.unique(HVSMR.decode(mask))) <= set(np.unique(labels)) | {0}


def test_a_label_volume_is_rebuilt_from_its_slices(tmp_path, volumes):
    config = make_config(tmp_path)
    run_prepare(config)
    recipe = SliceRecipe.from_dict(config.recipe_values)
    scan = volumes["pat1"]
    rebuilt = np.zeros_like(scan.labels)
    for record in read_manifest(tmp_path / "master" / "manifest.csv"):
        if record.case == "pat1":
            mask = HVSMR.decode(read_color(tmp_path / "master" / "masks" / record.file))
            grid = recipe.grid(
                (record.height, record.width), (record.spacing_row_mm, record.spacing_col_mm)
            )
            # Back from "turned 90 degrees clockwise".
            rebuilt[:, :, record.slice] = np.rot90(grid.labels_to_native(mask))
    np.testing.assert_array_equal(rebuilt, scan.labels)


@pytest.mark.parametrize("plane", ["coronal", "axial"])
def test_other_planes_and_padding(tmp_path, volumes, plane):
    config = make_config(tmp_path, {"prepare": {"plane": plane, "fit": "pad", "spacing_mm": 0.7}})
    run_prepare(config)
    records = read_manifest(tmp_path / "master" / "manifest.csv")
    assert {record.plane for record in records} == {plane}
    expected = (11, 9) if plane == "coronal" else (14, 9)
    assert {(r.height, r.width) for r in records} == {expected}


def test_empty_slices_are_kept_on_request(tmp_path, volumes):
    result = run_prepare(make_config(tmp_path, {"prepare": {"keep_empty": True}}))
    assert result.num_slices == 9 + 9 + 9
    records = read_manifest(tmp_path / "master" / "manifest.csv")
    assert min(record.foreground for record in records) == 0


def test_jobs_do_not_change_a_byte(tmp_path, volumes):
    run_prepare(make_config(tmp_path))
    both = make_config(
        tmp_path, {"data": {"master_dir": tmp_path / "other"}, "parallel": {"jobs": 2}}
    )
    heard = []
    run_prepare(both, report=lambda done, total, what: heard.append((done, total, what)))
    assert read_tree(tmp_path / "other") == read_tree(tmp_path / "master")
    assert sorted(what for *_, what in heard) == ["pat1", "pat10", "pat2"]


def test_all_problems_are_named_at_once_and_the_other_cases_are_done(tmp_path, volumes):
    folder, scan = tmp_path / "volumes", make_scan(seed=5)
    unknown = scan.labels.copy()
    unknown[7, 5, 4] = 9
    write_case(folder, "bad1", scan)
    write_nifti(folder / "bad1_cropped_seg.nii.gz", unknown, scan.affine)
    write_nifti(folder / "bad2_cropped_norm.nii.gz", scan.image, scan.affine)
    write_case(folder, "bad3", scan)
    write_nifti(folder / "bad3_cropped_seg.nii.gz", scan.labels[:-1], scan.affine)
    write_case(folder, "bad4", scan)
    write_nifti(folder / "bad4_cropped_seg.nii.gz", scan.labels, rotate(scan.affine))
    image_file, _ = write_case(folder, "bad5", scan)
    image_file.write_bytes(image_file.read_bytes()[:-200])
    write_case(folder, "bad6", scan)
    frames = np.stack([scan.image] * 2, axis=-1)
    write_nifti(folder / "bad6_cropped_norm.nii.gz", frames, scan.affine)
    (folder / "bad7_cropped_norm.nii.gz").symlink_to(folder / "nowhere.nii.gz")
    (folder / "bad7_cropped_seg.nii.gz").symlink_to(folder / "nowhere.nii.gz")

    with pytest.raises(BatchError) as caught:
        run_prepare(make_config(tmp_path))

    assert str(caught.value).startswith("7 of 10 cases could not be prepared")
    problems = sorted(caught.value.problems)
    assert len(problems) == 7
    for number, (what, text) in enumerate(
        [
            ("seg", "expected label values 0 to 8, found 9"),
            ("norm", "has no partner bad2_cropped_seg.nii.gz"),
            ("norm", "shape (14, 11, 9) differs from the shape (13, 11, 9)"),
            ("norm", "differs from the affine"),
            ("norm", "not a readable NIfTI file"),
            ("norm", "expected a 3D volume, found the shape (14, 11, 9, 2)"),
            ("seg", "is a link to a file that is not there"),
        ],
        start=1,
    ):
        assert problems[number - 1].startswith(f"{folder}/bad{number}_cropped_{what}.nii.gz: ")
        assert text in problems[number - 1]
        assert "\n" not in problems[number - 1]
    records = read_manifest(tmp_path / "master" / "manifest.csv")
    assert {record.case for record in records} == set(volumes)


def test_repaired_cases_are_added_to_the_others(tmp_path, volumes):
    label_file = tmp_path / "volumes" / "pat2_cropped_seg.nii.gz"
    whole = label_file.read_bytes()
    label_file.write_bytes(whole[:-50])
    with pytest.raises(BatchError):
        run_prepare(make_config(tmp_path))
    label_file.write_bytes(whole)

    result = run_prepare(make_config(tmp_path))

    assert result.num_cases == 3
    assert result.num_written == len(filled(volumes["pat2"]))


def test_a_wrong_spacing_is_a_problem_of_its_file(tmp_path):
    scan = make_scan(spacing_mm=(900.0, 900.0, 900.0))
    write_case(tmp_path / "volumes", "pat1", scan)
    with pytest.raises(BatchError, match="pat1_cropped_norm") as caught:
        run_prepare(make_config(tmp_path, {"prepare": {"fit": "pad", "spacing_mm": 0.5}}))
    assert "expected at most 8192 per side" in caught.value.problems[0]


def test_a_finished_folder_asks_for_overwrite(tmp_path, volumes):
    config = make_config(tmp_path)
    run_prepare(config)
    before = read_tree(tmp_path / "master")
    with pytest.raises(DataError, match="already prepared and complete; pass --overwrite"):
        run_prepare(config)
    assert read_tree(tmp_path / "master") == before
    assert run_prepare(config, overwrite=True).num_written > 0
    assert read_tree(tmp_path / "master") == before


def test_other_settings_ask_for_overwrite_and_leave_nothing_of_the_old(tmp_path, volumes):
    run_prepare(make_config(tmp_path, {"prepare": {"keep_empty": True}}))
    config = make_config(tmp_path, {"prepare": {"image_width": 16}})
    with pytest.raises(DataError, match="was prepared with other settings; pass --overwrite"):
        run_prepare(config)
    result = run_prepare(config, overwrite=True)
    assert len(list((tmp_path / "master" / "images").iterdir())) == result.num_slices


def test_a_folder_of_something_else_is_not_changed(tmp_path, volumes):
    notes = tmp_path / "master" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"notes\.txt, which `heartseg prepare` did not make"):
            run_prepare(make_config(tmp_path), overwrite=overwrite)
    assert [entry.name for entry in notes.parent.iterdir()] == ["notes.txt"]
    assert notes.read_text() == "mine"


def test_missing_slices_alone_are_written_again(tmp_path, volumes):
    config = make_config(tmp_path)
    run_prepare(config)
    master = tmp_path / "master"
    before = read_tree(master)
    lost = sorted((master / "images").iterdir())[:2] + sorted((master / "masks").iterdir())[-1:]
    for file in lost:
        file.unlink()
    (master / "masks" / ".heartseg-x-pat1_000.png").touch()

    assert run_prepare(config).num_written == 3

    assert read_tree(master) == before


def test_a_new_case_is_added_to_a_finished_folder(tmp_path, volumes):
    run_prepare(make_config(tmp_path))
    new = make_scan(seed=9)
    write_case(tmp_path / "volumes", "pat3", new)
    assert run_prepare(make_config(tmp_path)).num_written == len(filled(new))


def test_slices_of_a_replaced_volume_are_never_kept(tmp_path, volumes, monkeypatch):
    """They are replaced even if the run that was about to replace them was interrupted."""
    config = make_config(tmp_path)
    run_prepare(config)
    replaced = make_scan(seed=7)
    write_case(tmp_path / "volumes", "pat1", replaced)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("heartseg.pipelines.prepare.map_cases", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_prepare(config)
    run_prepare(config)

    fresh = make_config(tmp_path, {"data": {"master_dir": tmp_path / "fresh"}})
    run_prepare(fresh)
    assert read_tree(tmp_path / "master") == read_tree(tmp_path / "fresh")


def test_a_damaged_state_is_an_error_that_names_it(tmp_path, volumes):
    config = make_config(tmp_path)
    run_prepare(config)
    state = tmp_path / "master" / "prepare.json"
    content = json.loads(state.read_text())
    for damaged in ("{", "[]", json.dumps({**content, "cases": []})):
        state.write_text(damaged)
        with pytest.raises(DataError, match=r"prepare\.json|pass --overwrite"):
            run_prepare(config)


def test_nothing_but_background_is_an_error(tmp_path):
    scan = make_scan()
    write_case(tmp_path / "volumes", "pat1", type(scan)(scan.image, scan.labels * 0, scan.affine))
    with pytest.raises(
        DataError, match="volumes: expected label maps with structures, found background only"
    ):
        run_prepare(make_config(tmp_path))


def test_a_missing_source_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read as a folder"):
        run_prepare(make_config(tmp_path))
    assert not (tmp_path / "master").exists()


def test_other_labels_and_suffixes(tmp_path):
    scan = make_scan()
    write_nifti(tmp_path / "volumes" / "a_img.nii", scan.image, scan.affine)
    binary = (scan.labels > 0).astype(np.uint8)
    write_nifti(tmp_path / "volumes" / "a_lab.nii", binary, scan.affine)
    config = make_config(
        tmp_path, {"data": {"image_suffix": "_img", "label_suffix": "_lab"}}
    ).model_dump()
    config["labels"] = [
        {"value": 0, "key": "background", "name": "background", "color": (0, 0, 0)},
        {"value": 1, "key": "BP", "name": "blood pool", "color": (9, 8, 7)},
    ]
    from heartseg.config.schema import Config

    run_prepare(Config.model_validate(config))
    masks = [read_color(file) for file in (tmp_path / "master" / "masks").iterdir()]
    colors = np.unique(np.concatenate([mask.reshape(-1, 3) for mask in masks]), axis=0)
    assert colors.tolist() == [[0, 0, 0], [9, 8, 7]]


def test_the_real_cases_give_the_slices_that_hold_a_label(hvsmr2, tmp_path):
    import nibabel

    config = make_config(
        tmp_path, {"data": {"source_dir": hvsmr2 / "cropped_norm"}, "prepare": {"num_samples": 6}}
    )
    result = run_prepare(config)
    expected = 0
    for case in ("pat4", "pat58"):
        file = hvsmr2 / "cropped_norm" / f"{case}_cropped_seg.nii.gz"
        expected += np.asarray(nibabel.load(file).dataobj).any(axis=(0, 1)).sum()
    assert result.num_slices == expected


def test_a_window_of_other_units_is_an_error_that_says_what_to_set(tmp_path):
    scan = make_scan()
    units = type(scan)((scan.image * 900).clip(0).astype(np.int16), scan.labels, scan.affine)
    write_case(tmp_path / "volumes", "pat1", units)

    with pytest.raises(BatchError) as error:
        run_prepare(make_config(tmp_path, {"prepare": {"window_range": [0, 1]}}))
    assert "pat1_cropped_norm.nii.gz: the window from 0 to 1 makes" in error.value.problems[0]
    assert "--set prepare.window=percentile" in error.value.problems[0]
    percentiles = {"window": "percentile", "window_range": [0, 1]}
    with pytest.raises(BatchError) as error:
        run_prepare(make_config(tmp_path, {"prepare": percentiles}))
    assert "to percentiles further apart, such as [0.5,99.5]" in error.value.problems[0]
    assert "intensities of the scan" not in error.value.problems[0]


def test_percentiles_have_a_default_of_their_own():
    assert Config(prepare={"window": "percentile"}).prepare.window_range == (0.5, 99.5)
    given = Config(prepare={"window": "percentile", "window_range": [1, 99]})
    assert given.prepare.window_range == (1, 99)
