import math

import numpy as np
import pytest
from builders import make_affine

from heartseg.labels import HVSMR
from heartseg.measurements.structures import compute_ratios, measure_structures

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

    measured = {m.structure: m for m in measure_structures(labels, affine, HVSMR, image)}

    assert list(measured) == ["LV", "RV", "LA", "RA", "AO", "PA", "SVC", "IVC"]
    left = measured["LV"]
    assert left.volume_ml == pytest.approx((labels == 1).sum() * 0.96 / 1000)
    assert left.surface_area_mm2 == pytest.approx(4 * math.pi * 9**2, rel=0.03)
    assert left.mean_intensity == pytest.approx(3)
    assert (left.diameters, left.truncated, left.volume_ml_per_m2) == (None, False, None)
    assert measured["AO"].diameters.median.diameter_mm == pytest.approx(8, rel=0.05)
    assert measured["AO"].truncated
    absent = measured["IVC"]
    assert (absent.volume_ml, absent.surface_area_mm2, absent.mean_intensity) == (0, None, None)


def test_volumes_are_indexed_to_the_body_surface_area():
    labels, affine = heart()

    plain, indexed = (
        measure_structures(labels, affine, HVSMR, body_m2=area)[0] for area in (None, 0.5)
    )

    assert indexed.volume_ml_per_m2 == pytest.approx(2 * plain.volume_ml)
    assert plain.mean_intensity is None


def test_ratios_are_of_volumes_and_none_where_one_is_absent():
    labels, affine = heart()

    ventricles, atria = compute_ratios(measure_structures(labels, affine, HVSMR))

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
        measure_structures(*scan, HVSMR)[4].diameters
        for scan in ((labels, affine), (turned, other))
    )

    assert first.median.diameter_mm == pytest.approx(second.median.diameter_mm, rel=0.01)
    # 42 mm along the first axis (posterior), 15 mm along the second one (inferior).
    posterior, inferior = -affine[1, 3] + 42, -affine[2, 3] + 15
    for place in (first.median.place_mm, second.median.place_mm):
        assert place[1:] == pytest.approx((-posterior, -inferior), abs=0.7)


def test_an_empty_label_map_has_absent_structures_only():
    measured = measure_structures(np.zeros((5, 6, 7), np.uint8), np.eye(4), HVSMR)

    assert {m.volume_ml for m in measured} == {0}


def test_an_image_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"image: expected shape \(5, 6, 7\)"):
        measure_structures(np.zeros((5, 6, 7), np.uint8), np.eye(4), HVSMR, np.zeros((5, 6, 8)))
