import math
import types
import warnings

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import marching_cubes, mesh_surface_area
from skimage.metrics import hausdorff_distance

from heartseg.surfaces import distances
from heartseg.surfaces.distances import (
    SurfaceDistances,
    cell_triangles,
    corner_codes,
    surface_distances,
    surfel_areas,
)

SPACING_MM = (0.7, 1.1, 1.9)


def ball(shape, center, radius):
    grid = np.indices(shape)
    return sum((axis - c) ** 2 for axis, c in zip(grid, center, strict=True)) <= radius**2


def surface_of(*, distances, areas):
    return SurfaceDistances(
        np.array(distances, float), np.array(areas, float), np.zeros(1), np.ones(1)
    )


def test_the_surface_of_one_voxel_is_an_octahedron():
    codes = corner_codes(np.ones((1, 1, 1), bool))

    areas = surfel_areas((1.0, 1.0, 1.0))[codes]

    # Eight corners; the edges of the octahedron are sqrt(1/2) long.
    assert codes.shape == (2, 2, 2)
    np.testing.assert_allclose(areas.sum(), 8 * math.sqrt(3) / 4 * 0.5)


def test_a_flat_face_has_its_true_area_at_any_spacing():
    mask = np.zeros((9, 9, 9), bool)
    mask[:, :, :5] = True

    codes = corner_codes(mask)[2:-2, 2:-2]

    # Inside the volume each corner cell of the face between slices 4 and 5 covers one voxel.
    areas = surfel_areas(SPACING_MM)[codes[:, :, 5]]
    np.testing.assert_allclose(areas, 0.7 * 1.1)


def test_complementary_cells_have_equal_surfaces():
    areas = surfel_areas(SPACING_MM)

    np.testing.assert_allclose(areas, areas[::-1])
    assert areas[0] == areas[255] == 0
    assert (areas[1:255] > 0).all()


def test_triangles_form_a_closed_surface_around_the_mask():
    mask = ball((9, 10, 8), (4, 5, 4), 3.2)
    codes = corner_codes(mask)
    edges = {}
    volume = 0.0
    for cell in np.argwhere((codes > 0) & (codes < 255)):
        for triangle in cell_triangles(int(codes[tuple(cell)])) + 2 * cell:
            volume += np.linalg.det(triangle / 2) / 6
            for start, end in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
                key = (tuple(start), tuple(end))
                edges[key] = edges.get(key, 0) + 1

    # Each edge is walked as often one way as the other: no hole, no twist. Walked the wrong way
    # round, the volume would be negative.
    assert all(edges.get((end, start)) == count for (start, end), count in edges.items())
    assert 0.8 * mask.sum() < volume < mask.sum()


def test_the_area_agrees_with_scikit_image_within_the_ambiguous_cells():
    mask = ball((30, 28, 20), (15, 14, 10), 8)

    areas = surfel_areas(SPACING_MM)[corner_codes(mask)]

    vertices, faces, *_ = marching_cubes(np.pad(mask, 1).astype(float), 0.5, spacing=SPACING_MM)
    np.testing.assert_allclose(areas.sum(), mesh_surface_area(vertices, faces), rtol=0.02)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shift", [0, 1, 3, 9])
def test_distances_are_those_to_the_nearest_corner_of_the_other_surface(shift, order):
    # 9 voxels are beyond the reach of the search: the distance transform measures them.
    reference = np.asarray(ball((22, 14, 12), (7, 7, 5), 4), order=order)
    prediction = np.asarray(ball((22, 14, 12), (7 + shift, 6, 6), 4.5), order=order)

    found = surface_distances(prediction, reference, spacing_mm=SPACING_MM)

    corners = [
        np.argwhere((codes > 0) & (codes < 255)) * SPACING_MM
        for codes in (corner_codes(prediction), corner_codes(reference))
    ]
    expected = cdist(*corners)
    np.testing.assert_allclose(found.prediction_mm, expected.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.reference_mm, expected.min(axis=0), atol=1e-12)


def test_a_lone_surfel_far_away_is_measured_as_well():
    reference = np.zeros((40, 9, 9), bool)
    reference[2:6, 2:7, 2:7] = True
    prediction = reference.copy()
    prediction[38, 4, 4] = True

    found = surface_distances(prediction, reference, spacing_mm=(1.0, 1.0, 1.0))

    # From corner 39 of the voxel to the corner behind slice 5; the lone voxel is level with it.
    assert found.prediction_mm.max() == pytest.approx(33)
    assert found.percentile_mm(100) == pytest.approx(33)


def test_equal_masks_are_at_distance_0():
    mask = ball((12, 12, 12), (6, 6, 6), 4)

    found = surface_distances(mask, mask, spacing_mm=SPACING_MM)

    assert (found.percentile_mm(95), found.average_mm(), found.dice_at(0.5)) == (0, 0, 1)


def test_masks_that_touch_the_border_have_a_surface_there():
    mask = np.ones((3, 4, 5), bool)

    found = surface_distances(mask, mask, spacing_mm=(1, 1, 1))

    # All corners of the block's faces: 4 * 5 * 6 without the 2 * 3 * 4 inside.
    assert len(found.reference_mm) == 120 - 24


def test_the_percentile_counts_area_not_surfels():
    distances = surface_of(distances=[1, 2, 10], areas=[1, 98, 1])

    assert distances.percentile_mm(95) == 2
    assert distances.percentile_mm(100) == 10


def test_the_average_and_the_surface_dice_count_area():
    distances = surface_of(distances=[1, 3], areas=[3, 1])

    # The other surface adds an area of 1 at distance 0.
    assert distances.average_mm() == pytest.approx((3 + 3) / 5)
    assert distances.dice_at(2.0) == pytest.approx(4 / 5)


def test_a_distance_that_equals_the_tolerance_is_within_it():
    distances = surface_of(distances=[1.4], areas=[1])

    assert distances.dice_at(1.4) == 1
    assert distances.dice_at(1.39) == 0.5


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), "one shape"),
        (np.ones((2, 2), bool), np.ones((2, 2), bool), "3D"),
        (np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool), "not empty"),
    ],
)
def test_wrong_masks_are_refused(prediction, reference, message):
    with pytest.raises(ValueError, match=message):
        surface_distances(prediction, reference, spacing_mm=(1, 1, 1))


def test_hausdorff_differs_from_that_of_boundary_voxels_by_less_than_a_voxel():
    # The voxels next to the surface lie half a voxel's diagonal inside of it.
    reference = ball((24, 24, 24), (12, 12, 12), 7)
    prediction = ball((24, 24, 24), (14, 11, 12), 6.3)
    boundaries = [mask ^ ndimage.binary_erosion(mask) for mask in (prediction, reference)]

    found = surface_distances(prediction, reference, spacing_mm=(1, 1, 1)).percentile_mm(100)

    assert abs(found - hausdorff_distance(*boundaries)) <= math.sqrt(3)


@pytest.fixture
def reference_implementation(monkeypatch):
    package = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    # Version 0.1 uses names that NumPy 2 and SciPy 2 do not have.
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)
    for name in ("filters", "morphology"):
        module = types.SimpleNamespace(
            correlate=ndimage.correlate, distance_transform_edt=ndimage.distance_transform_edt
        )
        monkeypatch.setattr(ndimage, name, module)
    return package


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM, (3.0, 0.5, 0.9)])
def test_areas_are_those_of_the_reference_implementation(reference_implementation, spacing_mm):
    tables = reference_implementation.metrics.lookup_tables
    bits = np.array(tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL)
    expected = tables.create_table_neighbour_code_to_surface_area(spacing_mm)

    # The bits of a cell's corners are numbered in another order there.
    codes = [
        sum(bits[corner] for bit, corner in enumerate(distances._CORNERS) if code >> bit & 1)
        for code in range(256)
    ]
    np.testing.assert_allclose(surfel_areas(spacing_mm), expected[codes], atol=1e-9)


@pytest.mark.parametrize("case", ["pat17", "pat45"])
def test_real_label_maps_score_as_with_the_reference_implementation(
    hvsmr2, reference_implementation, case
):
    image = nibabel.load(hvsmr2 / "labels" / f"{case}_cropped_seg.nii.gz")
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    labels = np.asarray(image.dataobj)
    for value in (5, 7, 8):
        reference = labels == value
        prediction = ndimage.binary_dilation(np.roll(reference, 2, axis=2)) & (labels != 3)
        box = ndimage.find_objects(np.asarray(reference | prediction, np.uint8))[0]

        found = surface_distances(prediction[box], reference[box], spacing_mm=spacing_mm)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = reference_implementation.compute_surface_distances(
                reference, prediction, spacing_mm
            )
        averages = reference_implementation.compute_average_surface_distance(expected)
        areas = expected["surfel_areas_gt"].sum(), expected["surfel_areas_pred"].sum()
        hd95_mm = reference_implementation.compute_robust_hausdorff(expected, 95)
        nsd = reference_implementation.compute_surface_dice_at_tolerance(expected, 1.5)
        assert found.percentile_mm(95) == pytest.approx(hd95_mm, abs=1e-9)
        assert found.average_mm() == pytest.approx(np.average(averages, weights=areas), abs=1e-9)
        assert found.dice_at(1.5) == pytest.approx(nsd, abs=1e-9)


def test_sheared_axes_measure_in_the_patients_space():
    # Voxels of exactly 1 mm3, slices 1 mm apart, each 0.47 mm further along the second axis; the
    # top of the second box is 6 mm higher.
    axes = np.eye(3)
    axes[1, 2] = np.tan(np.deg2rad(25))
    low, high = np.zeros((2, 40, 40, 40), bool)
    low[5:35, 5:35, 10:25] = True
    high[5:35, 5:35, 10:31] = True

    found = surface_distances(high, low, spacing_mm=(1, 1, 1), axes_mm=axes)

    assert found.percentile_mm(95) == pytest.approx(6.0, abs=0.01)
    # The areas of a sheared box: two faces each of 30 x 30, 30 x 15 and 30 x 15 / cos 25 degrees,
    # less the rounded edges.
    faces = 2 * (900 + 450 + 450 / np.cos(np.deg2rad(25)))
    assert found.reference_mm2.sum() == pytest.approx(faces, rel=0.03)


def test_perpendicular_axes_give_what_the_spacing_gives():
    rng = np.random.default_rng(2)
    first, second = ndimage.gaussian_filter(rng.normal(size=(2, 16, 14, 12)), (0, 2, 2, 2)) > 0
    usual = surface_distances(first, second, spacing_mm=SPACING_MM)
    general = surface_distances(first, second, spacing_mm=SPACING_MM, axes_mm=np.diag(SPACING_MM))
    for name in ("prediction_mm", "prediction_mm2", "reference_mm", "reference_mm2"):
        np.testing.assert_allclose(getattr(general, name), getattr(usual, name), rtol=1e-9)
