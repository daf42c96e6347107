"""Closed surfaces of label maps, judged by trimesh, manifold3d and the voxels themselves."""

import itertools
import math
import re

import nibabel
import numpy as np
import pytest
import trimesh
from builders import make_affine, rotate
from solids import SPACING_MM, as_manifold, as_trimesh, ball, mean_distances_mm

from heartseg.label_tables import MMWHS
from heartseg.labels import HVSMR
from heartseg.surfaces.label_surfaces import BLOOD_POOL, build_surfaces, describe_scatter

OBLIQUE = rotate(make_affine("PIR", SPACING_MM), (20, -15, 40))
SHEARED = OBLIQUE @ np.array([[1, 0, 0.3, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def two_chambers():
    """Return balls of 8 and 6 mm (LV, LA) that overlap, so that they share a flat border."""
    labels = np.zeros((36, 24, 16), np.uint8)
    labels[ball(labels.shape, (9, 11, 11), 8)] = 1
    labels[ball(labels.shape, (18, 11, 11), 6) & (labels == 0)] = 3
    return labels


def voxel_mm3(affine):
    return abs(np.linalg.det(affine[:3, :3]))


@pytest.mark.parametrize("affine", [OBLIQUE, SHEARED], ids=["oblique", "sheared"])
@pytest.mark.parametrize("smooth_mm", [None, 0.0, 2.0])
def test_surfaces_are_closed_turned_outwards_and_keep_the_volume(affine, smooth_mm):
    labels = two_chambers()

    surfaces = build_surfaces(labels, affine, HVSMR, smooth_mm=smooth_mm)

    assert list(surfaces) == ["LV", "LA", BLOOD_POOL]
    for mask, mesh in zip((labels == 1, labels == 3, labels > 0), surfaces.values(), strict=True):
        judged = as_trimesh(mesh)
        assert judged.is_watertight
        assert judged.is_winding_consistent
        # Turned inside out, the volume would be negative.
        assert judged.volume == pytest.approx(mask.sum() * voxel_mm3(affine), rel=0.01)
        assert mesh.volume_mm3 == pytest.approx(judged.volume)
        assert mesh.area_mm2 == pytest.approx(judged.area)


def test_a_surface_lies_on_the_border_of_the_voxels_in_the_patient():
    labels = two_chambers()

    surfaces = build_surfaces(labels, OBLIQUE, HVSMR)

    for value, key in ((1, "LV"), (3, "LA")):
        there, back = mean_distances_mm(surfaces[key], labels == value, OBLIQUE)
        assert there < min(SPACING_MM) / 2
        assert back < min(SPACING_MM) / 2


def test_a_ball_is_round():
    labels = ball((28, 24, 16), (11, 11, 11), 8).astype(np.uint8)

    mesh = build_surfaces(labels, np.diag([*SPACING_MM, 1]), HVSMR)["LV"]

    radii = np.linalg.norm(mesh.vertices_mm - 11, axis=1)
    # Half of the longest side of a voxel is 0.75 mm.
    assert 7.25 < radii.min() < radii.max() < 8.75
    # The faces of its voxels have an area half as large again.
    assert mesh.area_mm2 == pytest.approx(4 * math.pi * 64, rel=0.03)


def test_neighbours_share_their_border_and_do_not_overlap():
    rng = np.random.default_rng(0)
    grid = np.moveaxis(np.indices((24, 20, 18)), 0, -1)
    seeds = rng.uniform(4, 16, (8, 3))
    labels = (np.linalg.norm(grid[..., np.newaxis, :] - seeds, axis=-1).argmin(-1) + 1).astype("u1")
    labels[np.linalg.norm(grid - (11, 9, 8), axis=-1) > 8] = 0

    surfaces = build_surfaces(labels, OBLIQUE, HVSMR)
    solids = {key: as_manifold(mesh) for key, mesh in surfaces.items()}
    pool = solids.pop(BLOOD_POOL)

    assert len(solids) > 5
    for first, second in itertools.combinations(solids.values(), 2):
        assert (first ^ second).volume() < 1e-4 * min(first.volume(), second.volume())
    # Where three or more meet, gaps smaller than a voxel remain.
    assert sum(solid.volume() for solid in solids.values()) == pytest.approx(
        pool.volume(), rel=0.02
    )


def test_a_wall_of_one_voxel_between_two_chambers_stays():
    labels = np.zeros((21, 16, 14), np.uint8)
    labels[2:10, 2:14, 2:12], labels[11:19, 2:14, 2:12] = 1, 3

    pool = build_surfaces(labels, np.eye(4), HVSMR)[BLOOD_POOL]

    assert len(as_trimesh(pool).split()) == 2


@pytest.mark.parametrize("num_classes", [2, 9])
def test_noise_is_found_by_the_sides_of_its_voxels(num_classes):
    noise = np.random.default_rng(0).integers(0, num_classes, (32, 30, 28)).astype(np.uint8)

    # By chance equal labels meet once in num_classes; at the border of the array nothing is met.
    sides = sum(2 - 2 / side for side in noise.shape) * (1 - 1 / num_classes)
    said = re.search(r"noise: (\d\.\d) of the 6 sides of a voxel", describe_scatter(noise))
    assert float(said[1]) == pytest.approx(sides, abs=0.07)


def test_a_heart_a_thin_sheet_and_a_little_noise_are_not_scattered():
    sheet = np.zeros((130, 120, 6), np.uint8)
    sheet[:, :, 3] = 1  # of 15,600 voxels, each with two sides
    checked = np.indices((16, 16, 16)).sum(axis=0).astype(np.uint8) % 2

    assert [describe_scatter(labels) for labels in (two_chambers(), sheet, checked)] == [None] * 3


def ventricle_in_muscle():
    """Return a ball of 5 mm (LV) in a shell of 3 mm (MYO), in the labels of MM-WHS."""
    labels = np.zeros((28, 24, 16), np.uint8)
    labels[ball(labels.shape, (11, 11, 11), 8)] = 1
    labels[ball(labels.shape, (11, 11, 11), 5)] = 3
    return labels


def test_muscle_has_a_surface_and_is_no_part_of_the_blood_pool():
    surfaces = build_surfaces(ventricle_in_muscle(), np.diag([*SPACING_MM, 1]), MMWHS)

    assert list(surfaces) == ["MYO", "LV", BLOOD_POOL]
    pool = surfaces[BLOOD_POOL]
    assert pool.volume_mm3 == pytest.approx(4 / 3 * math.pi * 125, rel=0.02)
    assert len(as_trimesh(pool).split()) == 1
    radii = np.linalg.norm(pool.vertices_mm - 11, axis=1)
    assert 4.25 < radii.min() < radii.max() < 5.75


def test_muscle_alone_has_no_blood_pool():
    surfaces = build_surfaces(ventricle_in_muscle(), OBLIQUE, MMWHS, keys=["MYO"])

    assert list(surfaces) == ["MYO"]


@pytest.mark.parametrize("triangles", [3000, 800])
def test_no_surface_has_more_triangles_than_wanted_and_volumes_stay(triangles):
    labels = two_chambers()

    surfaces = build_surfaces(labels, OBLIQUE, HVSMR, triangles=triangles)

    for mask, mesh in zip((labels == 1, labels == 3, labels > 0), surfaces.values(), strict=True):
        assert triangles / 8 < len(mesh.triangles) <= triangles
        assert as_trimesh(mesh).is_watertight
        assert mesh.volume_mm3 == pytest.approx(mask.sum() * voxel_mm3(OBLIQUE), rel=0.02)


@pytest.mark.parametrize("voxels", [1, 2, 5, 20])
@pytest.mark.parametrize("smooth_mm", [None, 5.0])
def test_the_smallest_structures_keep_their_volume(voxels, smooth_mm):
    labels = np.zeros((20, 14, 12), np.uint8)
    labels[3:15, 3:11, 3:9] = 1
    labels[5, 5, 5] = 2
    labels[6 : 6 + min(voxels, 5), 6 : 6 + math.ceil(voxels / 5), 6] = 2
    affine = make_affine()

    surfaces = build_surfaces(labels, affine, HVSMR, smooth_mm=smooth_mm)

    wanted = (labels == 2).sum() * voxel_mm3(affine)
    assert surfaces["RV"].volume_mm3 == pytest.approx(wanted, rel=0.02)
    assert as_trimesh(surfaces["RV"]).is_watertight


def test_a_structure_is_closed_at_the_border_of_the_array_and_in_all_its_parts():
    labels = np.zeros((12, 11, 10), np.uint8)
    labels[:4, :, :3] = 1
    labels[8:11, 4:8, 6:9] = 1

    mesh = build_surfaces(labels, make_affine(), HVSMR)["LV"]

    parts = as_trimesh(mesh).split()
    assert len(parts) == 2
    assert all(part.is_watertight for part in parts)
    assert mesh.volume_mm3 == pytest.approx((labels > 0).sum() * 1.32, rel=0.01)


def test_noise_gives_closed_surfaces_too():
    labels = np.random.default_rng(3).integers(0, 5, (12, 11, 10)).astype(np.uint8)

    for smooth_mm in (None, 0.0):
        for mesh in build_surfaces(labels, make_affine(), HVSMR, smooth_mm=smooth_mm).values():
            content = as_trimesh(mesh).export(file_type="stl")
            read = trimesh.load(trimesh.util.wrap_as_stream(content), file_type="stl")
            assert read.is_watertight


def test_only_wanted_structures_have_surfaces_and_make_up_the_blood_pool():
    labels = two_chambers()

    surfaces = build_surfaces(labels, OBLIQUE, HVSMR, keys=["LA", "RV"])

    assert list(surfaces) == ["LA", BLOOD_POOL]
    assert surfaces["LA"].volume_mm3 == pytest.approx(surfaces[BLOOD_POOL].volume_mm3, rel=0.01)


def test_an_empty_label_map_has_no_surface():
    assert build_surfaces(np.zeros((4, 5, 6), np.uint8), np.eye(4), HVSMR) == {}


@pytest.mark.parametrize("case", ["pat4", "pat58"])
def test_real_hearts_have_surfaces_within_the_promised_limits(hvsmr2, case):
    file = hvsmr2 / "cropped_norm" / f"{case}_cropped_seg.nii.gz"
    scan = nibabel.load(file)
    labels = np.asarray(scan.dataobj).astype(np.uint8)

    surfaces = build_surfaces(labels, scan.affine, HVSMR)

    assert len(surfaces) == len(np.unique(labels))
    for structure in HVSMR.foreground:
        if structure.key in surfaces:
            mask, mesh = labels == structure.value, surfaces[structure.key]
            assert as_trimesh(mesh).is_watertight
            assert mesh.volume_mm3 == pytest.approx(mask.sum() * voxel_mm3(scan.affine), rel=0.02)
            there, back = mean_distances_mm(mesh, mask, scan.affine)
            assert max(there, back) < min(scan.header.get_zooms()) / 2
