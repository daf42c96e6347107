import base64
import zlib

import numpy as np
import pytest
from pages.hearts import (
    AO,
    AO_OFFSET_MM,
    LV,
    LV_RADIUS_MM,
    OBLIQUE,
    SPACING_MM,
    lv_center_mm,
    make_page,
)

from heartseg.pages import payload
from heartseg.pages.payload import pack_scan, pack_surfaces
from heartseg.pages.scan_page import Surface
from heartseg.pictures.framing import find_heart


def unpack(text, dtype=np.uint8):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def unpack_scan(page):
    packed = pack_scan(page, find_heart(page.labels, page.affine))
    shape = packed["shape"]
    # Each row holds the differences of neighbours.
    image = np.cumsum(unpack(packed["image"]).reshape(shape), axis=-1, dtype=np.uint8)
    return packed, image, unpack(packed["labels"]).reshape(shape)


def center_of(mask, packed):
    """Return the mean place of a mask in mm: right, anterior, superior."""
    index = np.argwhere(mask).mean(axis=0)[::-1]
    return np.array(packed["origin"]) + index * packed["step"]


def test_structures_lie_where_they_are_in_the_patient():
    packed, image, labels = unpack_scan(make_page())

    assert packed["step"] == pytest.approx(min(SPACING_MM))
    np.testing.assert_allclose(center_of(labels == LV, packed), lv_center_mm(), atol=0.3)
    ao_mm = lv_center_mm() + AO_OFFSET_MM
    np.testing.assert_allclose(center_of(labels == AO, packed), ao_mm, atol=0.3)
    volume_mm3 = (labels == LV).sum() * packed["step"] ** 3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * LV_RADIUS_MM**3, rel=0.03)
    # Intensities from 0 to 1 become bytes.
    low, high = packed["range"]
    levels = low + image[labels == LV] * (high - low) / 255
    assert np.median(levels) == pytest.approx(0.8, abs=0.01)


def test_the_window_is_given_in_bytes_of_the_range():
    packed, _, _ = unpack_scan(make_page(window=(0.25, 0.75)))

    low, high = packed["range"]
    assert low <= 0.25
    assert high >= 0.75
    first, last = (low + byte * (high - low) / 255 for byte in packed["window"])
    assert (first, last) == pytest.approx((0.25, 0.75), abs=(high - low) / 255)


def test_the_cursor_starts_at_the_centre_of_the_heart():
    packed, _, labels = unpack_scan(make_page())

    place = np.array(packed["origin"]) + np.array(packed["cursor"]) * packed["step"]
    np.testing.assert_allclose(place, center_of(labels > 0, packed), atol=packed["step"])


def test_large_scans_are_thinned_out_to_the_bound(monkeypatch):
    monkeypatch.setattr(payload, "MAX_VOXELS", 4000)

    packed, _, labels = unpack_scan(make_page())

    assert labels.size == pytest.approx(4000, rel=0.15)
    np.testing.assert_allclose(center_of(labels == LV, packed), lv_center_mm(), atol=1.5)


def test_an_image_of_one_intensity_is_packed():
    page = make_page()

    packed, image, _ = unpack_scan(
        make_page(image=np.full(page.image.shape, 7.0), window=(7.0, 8.0))
    )

    assert packed["range"] == [7.0, 8.0]
    assert np.unique(image).tolist() == [0]


def test_surfaces_come_back_within_a_thousandth_of_a_millimetre():
    rng = np.random.default_rng(0)
    vertices = rng.uniform(-20, 20, (50, 3))
    triangles = rng.integers(0, 50, (80, 3))
    page = make_page()
    box = find_heart(page.labels, OBLIQUE)

    (packed,) = pack_surfaces(
        [Surface(3, vertices, triangles), Surface(4, vertices, triangles[:0])], box
    )

    assert packed["value"] == 3
    found = unpack(packed["vertices"], "<u2").reshape(-1, 3) * packed["step"] + packed["low"]
    np.testing.assert_allclose(found, vertices, atol=1.5e-3)
    np.testing.assert_array_equal(unpack(packed["triangles"], "<u4").reshape(-1, 3), triangles)
