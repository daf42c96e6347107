import math

import numpy as np
import pytest
from builders import make_affine

from heartseg.labels import HVSMR
from heartseg.measurements.shapes import measure_shapes
from heartseg.measurements.structures import compute_ratios, measure_structures, touches_border
from heartseg.surfaces.label_surfaces import fit_heart

SPACING_MM = (0.8, 1.0, 1.2)


def ball(shape, center, radius_mm):
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return np.linalg.norm((grid - center) * SPACING_MM, axis=-1) <= radius_mm


def heart():
    """Return balls of 9 mm (LV) and 7 mm (RV), and a bar (AO) that ends at the border."""
    labels = np.zeros((60, 30, 40), np.uint8)
    labels[ball(labels.shape, (14, 14, 16), 9)] = 1
    labels[ball(labels.shape, (38, 15, 15), 7)] = 2
    grid = np.moveaxis(np.indices(labels.shape), 0, -1) * SPACING_MM
    labels[(np.hypot(grid[..., 0] - 42, grid[..., 1] - 15) <= 4) & (grid[..., 2] > 12)] = 5
    return labels, make_affine("PIR", SPACING_MM)


def test_each_structure_has_what_can_be_computed_by_hand():
    labels, affine = heart()
    image = np.where(labels == 1, 3.0, 1.0).astype(np.float32)

    counted = measure_structures(labels, affine, HVSMR.foreground, image)
    measured = {m.structure: m for m in counted}

    assert list(measured) == ["LV", "RV", "LA", "RA", "AO", "PA", "SVC", "IVC"]
    left = measured["LV"]
    assert left.volume_ml == pytest.approx((labels == 1).sum() * 0.96 / 1000)
    assert left.mean_intensity == pytest.approx(3)
    assert (left.truncated, left.volume_ml_per_m2) == (False, None)
    assert measured["AO"].truncated
    absent = measured["IVC"]
    assert (absent.volume_ml, absent.voxels, absent.mean_intensity) == (0, 0, None)


def test_areas_and_diameters_are_those_of_the_solids():
    labels, affine = heart()

    shapes = measure_shapes(fit_heart(labels, affine, HVSMR))

    assert list(shapes) == ["LV", "RV", "AO"]
    assert shapes["LV"].surface_area_mm2 == pytest.approx(4 * math.pi * 9**2, rel=0.03)
    assert shapes["LV"].diameters is None
    assert shapes["AO"].diameters.median.diameter_mm == pytest.approx(8, rel=0.05)
    assert measure_shapes(fit_heart(np.zeros_like(labels), affine, HVSMR)) == {}


def test_only_wanted_structures_are_measured_and_compared():
    labels, affine = heart()
    wanted = [HVSMR.structures[5], HVSMR.structures[2]]

    measured = measure_structures(labels, affine, wanted)

    assert [entry.structure for entry in measured] == ["AO", "RV"]
    assert compute_ratios(measured) == ()


def test_volumes_are_indexed_to_the_body_surface_area():
    labels, affine = heart()

    plain, indexed = (
        measure_structures(labels, affine, HVSMR.foreground, body_m2=area)[0]
        for area in (None, 0.5)
    )

    assert indexed.volume_ml_per_m2 == pytest.approx(2 * plain.volume_ml)
    assert plain.mean_intensity is None


def test_ratios_are_of_volumes_and_none_where_one_is_absent():
    labels, affine = heart()

    ventricles, atria = compute_ratios(measure_structures(labels, affine, HVSMR.foreground))

    assert ventricles.name == "RV/LV"
    assert ventricles.ratio == pytest.approx((labels == 2).sum() / (labels == 1).sum())
    assert (atria.name, atria.ratio, atria.truncated) == ("RA/LA", None, False)


def test_a_place_is_the_same_in_the_patient_however_the_array_is_stored():
    labels, affine = heart()
    turned = np.ascontiguousarray(labels[::-1].transpose(2, 0, 1))
    other = np.eye(4)
    other[:3, :3] = np.stack([affine[:3, 2], -affine[:3, 0], affine[:3, 1]], axis=1)
    other[:3, 3] = affine[:3, 3] + affine[:3, 0] * (labels.shape[0] - 1)

    first, second = (
        measure_shapes(fit_heart(*scan, HVSMR))["AO"].diameters
        for scan in ((labels, affine), (turned, other))
    )

    assert first.median.diameter_mm == pytest.approx(second.median.diameter_mm, rel=0.01)
    # 42 mm along the first axis (posterior), 15 mm along the second one (inferior).
    posterior, inferior = -affine[1, 3] + 42, -affine[2, 3] + 15
    for place in (first.median.place_mm, second.median.place_mm):
        assert place[1:] == pytest.approx((-posterior, -inferior), abs=0.7)


def test_an_empty_label_map_has_absent_structures_only():
    measured = measure_structures(np.zeros((5, 6, 7), np.uint8), np.eye(4), HVSMR.foreground)

    assert {m.volume_ml for m in measured} == {0}


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"image: expected shape \(5, 6, 7\)"):
        measure_structures(
            np.zeros((5, 6, 7), np.uint8), np.eye(4), HVSMR.foreground, np.zeros((5, 6, 8))
        )


def test_structures_at_the_border_are_found():
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[2, 3, 6] = 3
    labels[2, 3, 3] = 2

    np.testing.assert_array_equal(touches_border(labels, 5), [True, False, False, True, False])
