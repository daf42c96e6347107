import numpy as np
import pytest
from builders import make_affine
from pages.hearts import (
    AO,
    AO_OFFSET_MM,
    AO_RADIUS_MM,
    LV,
    LV_RADIUS_MM,
    OBLIQUE,
    SPACING_MM,
    lv_center_mm,
    make_page,
)

from heartseg.labels import HVSMR
from heartseg.pages import heart_surfaces
from heartseg.pages.heart_surfaces import coarse_surfaces


def build(affine):
    labels = make_page(affine).labels
    found = coarse_surfaces(labels, affine, HVSMR)
    return {surface.value: surface for surface in found}


def signed_volume_mm3(surface):
    return np.linalg.det(surface.vertices_mm[surface.triangles].astype(float)).sum() / 6


@pytest.mark.parametrize("affine", [OBLIQUE, make_affine("LAS", SPACING_MM)])
def test_surfaces_lie_where_the_structures_are_and_look_outward(affine):
    surfaces = build(affine)

    assert sorted(surfaces) == [LV, AO]
    center = lv_center_mm(affine)
    for value, place, radius in (
        (LV, center, LV_RADIUS_MM),
        (AO, center + AO_OFFSET_MM, AO_RADIUS_MM),
    ):
        away = np.linalg.norm(surfaces[value].vertices_mm - place, axis=-1)
        assert away.mean() == pytest.approx(radius, abs=0.4)
        assert np.abs(away - radius).max() < 1
        # Positive: counter-clockwise from outside.
        sphere = 4 / 3 * np.pi * radius**3
        assert signed_volume_mm3(surfaces[value]) == pytest.approx(sphere, rel=0.06)


def test_surfaces_keep_to_the_number_of_triangles(monkeypatch):
    monkeypatch.setattr(heart_surfaces, "MAX_TRIANGLES", 1500)

    surfaces = build(OBLIQUE)

    count = sum(len(surface.triangles) for surface in surfaces.values())
    assert 750 < count <= 1500


def test_without_a_label_there_is_no_surface():
    labels = np.zeros((6, 7, 8), np.uint8)

    assert coarse_surfaces(labels, np.eye(4), HVSMR) == []
