"""The hollow model: its thickness, its openings and its inside."""

import numpy as np
import pytest
from builders import make_affine, rotate
from solids import SPACING_MM, as_trimesh, ball

from heartseg.label_tables import MMWHS
from heartseg.labels import HVSMR
from heartseg.surfaces.label_surfaces import BLOOD_POOL, build_surfaces
from heartseg.surfaces.wall import build_wall, find_cut

AFFINE = rotate(make_affine("PIR", SPACING_MM), (20, -15, 40))


def heart_with_aorta():
    """Return a ball of 7 mm (LV) with a bar of 3 mm (AO) that ends at the border of the array."""
    labels = np.zeros((24, 20, 26), np.uint8)
    grid = np.moveaxis(np.indices(labels.shape), 0, -1) * SPACING_MM
    labels[(np.hypot(grid[..., 0] - 9.5, grid[..., 1] - 9.5) <= 3) & (grid[..., 2] > 12)] = 5
    labels[ball(labels.shape, (9.5, 9.5, 11), 7)] = 1
    return labels


def closed_heart():
    return np.pad(heart_with_aorta(), ((0, 0), (0, 0), (0, 3)))


@pytest.mark.parametrize("wall_mm", [0.8, 2.0])
def test_a_wall_has_the_wanted_thickness_and_is_open_at_the_border(wall_mm):
    wall = build_wall(heart_with_aorta(), AFFINE, HVSMR, wall_mm=wall_mm)

    solid = as_trimesh(wall.mesh)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert wall.opened == ("AO",)
    # Open on one side it is one surface, like a cup.
    assert len(solid.split(only_watertight=False)) == 1
    assert solid.euler_number == 2
    assert wall.thickness.median_mm == pytest.approx(wall_mm, abs=0.02)
    assert wall.thickness.minimum_mm == pytest.approx(wall_mm, abs=0.05)
    assert wall.thickness.within_part > 0.97


def test_the_thickness_is_what_trimesh_measures():
    wall = build_wall(closed_heart(), AFFINE, HVSMR, wall_mm=0.8)

    inside, outside = sorted(
        as_trimesh(wall.mesh).split(only_watertight=False), key=lambda m: m.area
    )
    measured = np.abs(trimesh_distances(inside, outside.triangles_center[::40]))
    assert measured.min() >= wall.thickness.minimum_mm - 0.01
    assert measured.max() <= wall.thickness.maximum_mm + 0.01
    assert np.median(measured) == pytest.approx(0.8, abs=0.02)


def trimesh_distances(mesh, points):
    import trimesh

    corners = mesh.triangles
    return np.array(
        [
            np.linalg.norm(
                trimesh.triangles.closest_point(corners, np.repeat([p], len(corners), 0)) - p,
                axis=1,
            ).min()
            for p in points
        ]
    )


def test_the_wall_surrounds_the_blood_and_not_the_muscle():
    labels = np.zeros((28, 24, 18), np.uint8)
    center_mm = (11, 11, 12)
    labels[ball(labels.shape, center_mm, 8)] = 1
    labels[ball(labels.shape, center_mm, 5)] = 3
    wall = build_wall(labels, np.diag([*SPACING_MM, 1]), MMWHS, wall_mm=1.0)

    radii = np.linalg.norm(wall.mesh.vertices_mm - center_mm, axis=1)
    # Half of the longest side of a voxel is 0.75 mm.
    assert 4.25 < radii.min() < 5 < 6 < radii.max() < 6.75
    assert build_wall(labels, AFFINE, MMWHS, wall_mm=1.0, keys=["MYO"]) is None


def test_without_a_vessel_at_the_border_the_inside_is_the_blood_pool():
    labels = closed_heart()
    wall = build_wall(labels, AFFINE, HVSMR, wall_mm=0.8)

    assert wall.opened == ()
    inside, outside = sorted(
        as_trimesh(wall.mesh).split(only_watertight=False), key=lambda m: m.area
    )
    # Seen from the wall the inside is turned inside out.
    assert -inside.volume == pytest.approx((labels > 0).sum() * 1.2, rel=0.01)
    pool = as_trimesh(build_surfaces(labels, AFFINE, HVSMR)[BLOOD_POOL])
    assert np.abs(trimesh_distances(pool, inside.vertices[::60])).max() < 0.4
    assert outside.volume > -inside.volume


def test_an_end_zone_opens_its_own_vessel_where_it_begins():
    labels = closed_heart()
    zones = np.zeros_like(labels)
    zones[:, :, 22:] = 5

    wall = build_wall(labels, AFFINE, HVSMR, wall_mm=0.8, zones=zones)

    assert wall.opened == ("AO",)
    solid = as_trimesh(wall.mesh)
    assert solid.is_watertight
    assert solid.euler_number == 2
    index = (solid.vertices - AFFINE[:3, 3]) @ np.linalg.inv(AFFINE[:3, :3]).T
    # The last layer before the zone goes too: smoothing rounds it.
    assert index[:, 2].max() == pytest.approx(20.5, abs=0.7)


def test_a_zone_of_another_structure_opens_nothing():
    labels = closed_heart()
    zones = np.full_like(labels, 7)

    assert build_wall(labels, AFFINE, HVSMR, wall_mm=0.8, zones=zones).opened == ()


def test_a_voxel_is_cut_away_with_the_blood_that_is_nearest_to_it():
    blood = np.zeros((9, 5, 5), np.uint8)
    blood[1:7, 2, 2], blood[1:7, 2, 4] = 5, 1
    zones = np.zeros_like(blood)
    zones[6:, :, :] = 5

    cut, opened = find_cut(blood, np.zeros(blood.shape, bool), zones, np.ones(3))

    assert opened == {5}
    # The zone and the layer before it, around the vessel, and nothing around its neighbour.
    assert cut[5:, 2, :3].all()
    assert not cut[:5].any()
    assert not cut[1:7, 2, 4].any()


def test_a_wall_has_no_more_triangles_than_wanted():
    wall = build_wall(heart_with_aorta(), AFFINE, HVSMR, wall_mm=0.8, triangles=3000)

    assert len(wall.mesh.triangles) <= 3000
    assert as_trimesh(wall.mesh).is_watertight


def test_nothing_is_left_where_all_blood_is_cut_away():
    labels = closed_heart()

    assert build_wall(labels, AFFINE, HVSMR, wall_mm=1, zones=labels) is None
    assert build_wall(np.ones((5, 6, 7), np.uint8), AFFINE, HVSMR, wall_mm=1) is None


def test_without_blood_there_is_no_wall():
    assert build_wall(np.zeros((4, 5, 6), np.uint8), np.eye(4), HVSMR, wall_mm=1) is None
    assert build_wall(heart_with_aorta(), AFFINE, HVSMR, wall_mm=1, keys=["PA"]) is None
