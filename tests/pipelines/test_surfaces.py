import json

import nibabel
import numpy as np
import pytest
import trimesh
from builders import full_disk, make_affine, write_nifti

from heartseg.errors import BatchError, DataError
from heartseg.label_tables import ACDC
from heartseg.labels import HVSMR
from heartseg.pipelines.surfaces import SurfaceOptions, run_surfaces
from heartseg.scans.provenance import Provenance
from heartseg.scans.volume import read_image, write_label_map

AFFINE = make_affine("PIR", (0.8, 1.0, 1.5))


def make_labels():
    """Return a block (LV) with a bar (AO) on it that ends within the array."""
    labels = np.zeros((18, 16, 20), np.uint8)
    labels[3:15, 3:13, 3:9] = 1
    labels[6:12, 5:11, 9:16] = 5
    return labels


def write_case(folder, name, labels=None):
    labels = make_labels() if labels is None else labels
    zones = np.zeros_like(labels)
    zones[:, :, 15:] = 5
    write_nifti(folder / f"{name}_cropped_seg_endpoints.nii.gz", zones, AFFINE)
    return write_nifti(folder / f"{name}_cropped_seg.nii.gz", labels, AFFINE)


def names(folder):
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))


def run(inputs, folder, *, endpoints=None, overwrite=False, table=HVSMR, **options):
    return run_surfaces(
        inputs,
        table=table,
        options=SurfaceOptions(**options),
        output_dir=folder,
        endpoints=endpoints,
        overwrite=overwrite,
    )


def test_each_structure_and_the_blood_pool_have_a_file_named_by_the_case(tmp_path, caplog):
    caplog.set_level("INFO")
    file = write_case(tmp_path, "pat7")

    result = run([file], tmp_path / "out")

    files = [f"pat7_{key}.stl" for key in ("AO", "LV", "blood_pool")]
    assert names(tmp_path / "out") == sorted([*files, "pat7_heart.glb", "pat7_surfaces.json"])
    assert result.cases[0].absent == ("RV", "LA", "RA", "PA", "SVC", "IVC")
    assert "pat7: no voxel and no surface of RV, LA, RA, PA, SVC, IVC" in caplog.text
    mesh = trimesh.load(tmp_path / "out" / "pat7_LV.stl")
    assert mesh.volume == pytest.approx((make_labels() == 1).sum() * 1.2, rel=0.02)


def test_the_record_says_how_large_the_surfaces_are(tmp_path):
    labels = make_labels()
    labels[6:12, 5:11, 16:] = 5
    file = write_nifti(tmp_path / "a_seg.nii.gz", labels, AFFINE)

    run([file], tmp_path / "out", triangles=2000)

    record = json.loads((tmp_path / "out" / "a_surfaces.json").read_text())
    left = record["surfaces"]["LV"]
    mesh = trimesh.load(tmp_path / "out" / "a_LV.stl")
    assert left["volume_of_voxels_ml"] == 0.864
    assert left["volume_ml"] == pytest.approx(mesh.volume / 1000, abs=1e-3)
    assert left["area_mm2"] == pytest.approx(mesh.area, rel=1e-3)
    assert left["triangles"] == len(mesh.faces) <= 2000
    assert record["truncated"] == ["AO"]
    assert "LPS" in record["coordinates"]


def test_a_wall_is_open_at_the_end_zone_and_its_thickness_is_recorded(tmp_path):
    file = write_case(tmp_path, "a")
    zones = tmp_path / "a_cropped_seg_endpoints.nii.gz"

    result = run([file], tmp_path / "out", wall_mm=0.8, endpoints=zones)

    solid = trimesh.load(tmp_path / "out" / "a_wall.stl")
    assert solid.is_watertight
    assert len(solid.split(only_watertight=False)) == 1
    wall = json.loads((tmp_path / "out" / "a_surfaces.json").read_text())["wall"]
    assert (wall["wanted_mm"], wall["opened"]) == (0.8, ["AO"])
    assert wall["median_mm"] == pytest.approx(0.8, abs=0.02)
    assert wall["minimum_mm"] <= wall["median_mm"] <= wall["maximum_mm"]
    assert result.cases[0].thickness.median_mm == pytest.approx(wall["median_mm"], abs=1e-4)


def test_the_record_and_the_wall_leave_muscle_out_of_the_blood(tmp_path):
    labels = np.zeros((18, 16, 20), np.uint8)
    labels[3:15, 3:13, 3:15] = 2  # MYO
    labels[6:12, 5:11, 5:13] = 3  # LV
    file = write_nifti(tmp_path / "a_seg.nii.gz", labels, AFFINE)

    run([file], tmp_path / "out", table=ACDC, wall_mm=0.8)

    record = json.loads((tmp_path / "out" / "a_surfaces.json").read_text())
    pool = record["surfaces"]["blood_pool"]
    assert pool["volume_of_voxels_ml"] == record["surfaces"]["LV"]["volume_of_voxels_ml"] == 0.3456
    assert pool["volume_ml"] == pytest.approx(0.3456, rel=0.01)
    with pytest.raises(BatchError) as caught:
        run([file], tmp_path / "muscle", table=ACDC, wall_mm=0.8, structures=("MYO",))
    assert "expected blood to build a wall around, found MYO only" in caught.value.problems[0]
    run([file], tmp_path / "out", table=ACDC, structures=("MYO",), overwrite=True)
    assert "a_blood_pool.stl" not in names(tmp_path / "out")


def test_noise_is_refused_at_once(tmp_path):
    noise = np.random.default_rng(0).integers(0, 9, (40, 40, 40)).astype(np.uint8)
    file = write_nifti(tmp_path / "a_seg.nii.gz", noise, AFFINE)

    with pytest.raises(BatchError) as caught:
        run([file], tmp_path / "out")

    assert "a_seg.nii.gz: the labels are scattered as in noise: 5.2 of" in caught.value.problems[0]


def test_the_model_that_made_the_label_map_is_named(tmp_path):
    file = write_case(tmp_path, "a")
    table, scan = HVSMR, read_image(file)
    write_label_map(file, make_labels(), like=scan, table=table, provenance=Provenance("mine"))

    run([file], tmp_path / "out", file_format="ply")

    assert json.loads((tmp_path / "out" / "a_surfaces.json").read_text())["model"] == "mine"
    assert b"model mine" in (tmp_path / "out" / "a_LV.ply").read_bytes()[:200]


def test_a_wall_that_is_closed_is_a_warning_that_says_what_to_do(tmp_path, caplog):
    run([write_case(tmp_path, "a")], tmp_path / "out", wall_mm=0.8)

    assert "a: the wall is closed on all sides" in caplog.text
    assert "--endpoints FILE" in caplog.text


def test_a_folder_gives_the_surfaces_of_each_label_map_and_its_end_zones(tmp_path):
    for name in ("a", "b"):
        write_case(tmp_path / "in", name)

    result = run([tmp_path / "in"], tmp_path / "out", wall_mm=0.8, endpoints=tmp_path / "in")

    assert [case.name for case in result.cases] == ["a", "b"]
    record = json.loads((tmp_path / "out" / "b_surfaces.json").read_text())
    assert record["wall"]["opened"] == ["AO"]


def test_only_the_wanted_structures_are_written(tmp_path):
    run([write_case(tmp_path, "a")], tmp_path / "out", structures=("ao",), file_format="ply")

    kept = ["a_AO.ply", "a_blood_pool.ply", "a_heart.glb", "a_surfaces.json"]
    assert names(tmp_path / "out") == kept


def test_nothing_is_replaced_unless_asked_and_no_stale_surface_stays(tmp_path):
    file = write_case(tmp_path, "a")
    run([file], tmp_path / "out")
    with pytest.raises(DataError, match=r"a_LV\.stl: already exists; pass --overwrite"):
        run([file], tmp_path / "out")
    labels = make_labels()
    labels[labels == 5] = 0
    write_nifti(file, labels, AFFINE)

    run([file], tmp_path / "out", overwrite=True)

    assert "a_AO.stl" not in names(tmp_path / "out")
    assert "a_LV.stl" in names(tmp_path / "out")


def test_surfaces_that_cannot_all_be_written_are_none_and_the_next_call_does_them(tmp_path):
    file, out = write_case(tmp_path, "a"), tmp_path / "out"

    with full_disk("a_heart.glb"), pytest.raises(BatchError) as caught:
        run([file], out)
    [problem] = caught.value.problems
    assert problem == f"{out / 'a_heart.glb'}: cannot be written (No space left on device)"
    assert list(out.iterdir()) == []

    run([file], out)
    assert "a_heart.glb" in names(out)


def test_a_file_that_heartseg_did_not_write_is_never_replaced(tmp_path):
    file = write_case(tmp_path, "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_LV.stl").write_text("mine")

    with pytest.raises(DataError, match=r"a_LV\.stl: there is no record"):
        run([file], tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "a_LV.stl").read_text() == "mine"


def test_one_bad_label_map_does_not_keep_the_others(tmp_path):
    good = write_case(tmp_path, "good")
    empty = write_nifti(tmp_path / "empty_seg.nii.gz", np.zeros((4, 5, 6), np.uint8), AFFINE)
    wrong = write_nifti(tmp_path / "wrong_seg.nii.gz", np.full((4, 5, 6), 77, np.uint8), AFFINE)

    with pytest.raises(BatchError, match="2 label maps could not") as caught:
        run([empty, good, wrong], tmp_path / "out")

    assert "empty_seg.nii.gz: expected a voxel of LV, RV" in str(caught.value)
    assert "0 to 8, found 77" in str(caught.value)
    assert "good_LV.stl" in names(tmp_path / "out")


def test_end_zones_of_another_grid_are_refused(tmp_path):
    file = write_case(tmp_path, "a")
    zones = write_nifti(tmp_path / "zones.nii.gz", np.zeros((4, 5, 6), np.uint8), AFFINE)

    with pytest.raises(BatchError, match=r"zones\.nii\.gz: shape \(4, 5, 6\)"):
        run([file], tmp_path / "out", wall_mm=1.0, endpoints=zones)


def test_a_wall_of_which_nothing_is_left_is_an_error_that_says_why(tmp_path):
    file = write_case(tmp_path, "a")

    with pytest.raises(BatchError, match=r"a_cropped_seg\.nii\.gz: nothing is left of the wall"):
        run([file], tmp_path / "out", wall_mm=1.0, endpoints=file)


def test_options_without_sense_are_errors_before_any_work(tmp_path):
    one, two = write_case(tmp_path / "x", "a"), write_case(tmp_path / "y", "b")
    out = tmp_path / "out"
    zones = tmp_path / "x" / "a_cropped_seg_endpoints.nii.gz"

    with pytest.raises(DataError, match="--endpoints opens the wall"):
        run([one], out, endpoints=zones)
    with pytest.raises(DataError, match="expected a folder"):
        run([one, two], out, wall_mm=1.0, endpoints=zones)
    with pytest.raises(DataError, match=r"found none for b_cropped_seg\.nii\.gz"):
        run([one, two], out, wall_mm=1.0, endpoints=tmp_path / "x")
    with pytest.raises(DataError, match=r"structures: expected some of LV.*found XX"):
        run([one], out, structures=("LV", "XX"))
    same = write_nifti(tmp_path / "y" / "a_seg.nii.gz", make_labels(), AFFINE)
    with pytest.raises(DataError, match=r"a_LV\.stl would have the same name"):
        run([one, same], out)
    with pytest.raises(DataError, match="no such file"):
        run([tmp_path / "gone.nii.gz"], out)
    assert not out.exists()


def test_label_maps_of_other_formats_are_read(tmp_path):
    file = tmp_path / "a.mgz"
    nibabel.save(nibabel.MGHImage(make_labels(), AFFINE.astype(np.float32)), file)

    run([file], tmp_path / "out")

    assert "a_LV.stl" in names(tmp_path / "out")
