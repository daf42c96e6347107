import numpy as np
import pytest
from solids import as_trimesh

from heartseg.surfaces.isosurface import extract_mesh


def test_the_surface_of_a_plane_lies_where_the_field_is_0():
    field = np.broadcast_to((2.25 - np.arange(6.0)) / 4, (4, 5, 6)).astype(np.float32)

    mesh = extract_mesh(field, np.diag([1.0, 1.0, 2.0, 1.0]))

    # Closed half a sample or so beyond the array, where nothing is.
    flat = mesh.vertices_mm[(mesh.vertices_mm[:, :2] % 1 == 0).all(axis=1)]
    assert flat[:, 2].max() == pytest.approx(4.5)


@pytest.mark.parametrize("turned", [False, True])
def test_triangles_are_turned_outwards_in_every_orientation(turned):
    field = np.full((5, 6, 7), -1, np.float32)
    field[1:4, 1:5, 1:6] = 1
    affine = np.diag([-1.0, 1.5, 2.0, 1.0]) if turned else np.eye(4)

    assert as_trimesh(extract_mesh(field, affine)).volume > 0


def test_fields_that_are_0_at_samples_have_no_triangles_without_area():
    field = np.array(np.sin(np.indices((9, 9, 9)).sum(axis=0) * np.pi / 2), np.float32).round()

    mesh = as_trimesh(extract_mesh(field, np.eye(4)))

    assert mesh.area_faces.min() > 1e-6
    assert mesh.is_winding_consistent


def test_a_surface_far_from_the_origin_has_the_same_volume():
    field = np.full((5, 6, 7), -1, np.float32)
    field[1:4, 1:5, 1:6] = 1
    far = np.eye(4)
    far[:3, 3] = 1e6

    near, away = (extract_mesh(field, affine).volume_mm3 for affine in (np.eye(4), far))

    assert away == pytest.approx(near, rel=1e-6)


def test_a_field_without_inside_has_no_triangles():
    mesh = extract_mesh(np.full((3, 4, 5), -1, np.float32), np.eye(4))

    assert (mesh.triangles.shape, mesh.volume_mm3, mesh.area_mm2) == ((0, 3), 0, 0)
