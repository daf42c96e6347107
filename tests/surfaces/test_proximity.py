import numpy as np
import pytest
import trimesh
from solids import as_trimesh, ball

from heartseg.surfaces.isosurface import Mesh
from heartseg.surfaces.mesh import build_mesh
from heartseg.surfaces.proximity import SurfaceIndex

# A right angle at the origin.
TRIANGLE = Mesh(np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0]]), np.array([[0, 1, 2]], np.int32))


@pytest.mark.parametrize(
    ("point", "nearest"),
    [
        ((1, 1, 5), (1, 1, 0)),
        ((-2, -1, 1), (0, 0, 0)),
        ((2, -3, 0), (2, 0, 0)),
        ((-1, 2, 2), (0, 2, 0)),
        ((4, 3, 0), (2.56, 1.08, 0)),
        ((9, 0, 0), (4, 0, 0)),
        ((0, 9, 1), (0, 3, 0)),
    ],
)
def test_the_nearest_place_of_a_triangle_is_within_on_an_edge_or_at_a_corner(point, nearest):
    found = SurfaceIndex(TRIANGLE).nearest(np.array([point], float))

    np.testing.assert_allclose(found, [nearest], atol=1e-9)


def test_distances_agree_with_a_search_of_all_triangles():
    spacing_mm = (0.7, 0.7, 0.9)
    mask = ball((24, 24, 20), (8, 8, 8), 6, spacing_mm) | ball(
        (24, 24, 20), (11, 9, 9), 4, spacing_mm
    )
    mesh = build_mesh(mask, spacing_mm=spacing_mm)
    points = np.random.default_rng(0).normal(8, 5, (60, 3))
    corners = as_trimesh(mesh).triangles
    expected = [
        np.linalg.norm(
            trimesh.triangles.closest_point(corners, np.repeat([point], len(corners), 0)) - point,
            axis=1,
        ).min()
        for point in points
    ]

    index = SurfaceIndex(mesh)

    np.testing.assert_allclose(index.distances_mm(points), expected, atol=0.02)
    low, high = index.bounds_mm(points)
    assert (low <= np.array(expected) + 1e-9).all()
    assert (high >= np.array(expected) - 1e-9).all()
