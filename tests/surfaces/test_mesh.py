import numpy as np
import pytest

from heartseg.surfaces.mesh import build_mesh, coarsen

SPACING_MM = (0.8, 1.0, 1.5)


def signed_volume(mesh):
    corners = mesh.vertices_mm[mesh.triangles].astype(float)
    return np.linalg.det(corners).sum() / 6


def test_a_mesh_encloses_about_the_volume_of_its_mask():
    grid = np.indices((24, 20, 16))
    center = np.array([12, 10, 8]).reshape(3, 1, 1, 1)
    distance_mm = np.sqrt(((grid - center) ** 2 * np.reshape(SPACING_MM, (3, 1, 1, 1)) ** 2).sum(0))
    mask = distance_mm <= 7

    mesh = build_mesh(mask, spacing_mm=SPACING_MM)

    assert signed_volume(mesh) == pytest.approx(mask.sum() * np.prod(SPACING_MM), rel=0.05)
    radii = np.linalg.norm(mesh.vertices_mm - np.multiply([12, 10, 8], SPACING_MM), axis=1)
    assert radii.min() > 5.8
    assert radii.max() < 8.2


def test_a_mask_that_touches_the_border_is_closed_there():
    mesh = build_mesh(np.ones((4, 4, 4), bool), spacing_mm=(1, 1, 1))

    assert signed_volume(mesh) > 0
    # Every edge of a closed surface belongs to two triangles.
    edges = np.sort(mesh.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


def test_an_empty_mask_has_no_triangles():
    mesh = build_mesh(np.zeros((3, 4, 5), bool), spacing_mm=SPACING_MM)

    assert mesh.triangles.shape == (0, 3)


def test_a_block_stays_inside_if_at_least_half_of_it_is():
    mask = np.zeros((4, 2, 3), bool)
    mask[:2, :, 0] = True  # half of the first block
    mask[2, 0, 2] = True  # one voxel of a block that is padded to eight

    coarse = coarsen(mask, (2, 2, 2))

    assert coarse.shape == (2, 1, 2)
    np.testing.assert_array_equal(np.argwhere(coarse), [[0, 0, 0]])
