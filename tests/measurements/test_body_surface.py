import pytest

from heartseg.errors import DataError
from heartseg.measurements.body_surface import body_surface_m2, mosteller_m2


@pytest.mark.parametrize(
    ("height_cm", "weight_kg", "area_m2"), [(160, 62.5, 5 / 3), (180, 80, 2.0), (50, 3.5, 0.2205)]
)
def test_the_area_is_the_root_of_height_times_weight_over_3600(height_cm, weight_kg, area_m2):
    assert mosteller_m2(height_cm, weight_kg) == pytest.approx(area_m2, rel=1e-3)


def test_a_height_in_metres_and_a_weight_in_grams_are_refused():
    with pytest.raises(DataError, match=r"height: expected 30 to 250 cm, got 1\.8"):
        mosteller_m2(1.8, 80)
    with pytest.raises(DataError, match=r"weight: expected 0\.5 to 350 kg, got 3500"):
        mosteller_m2(50, 3500)


def test_height_and_weight_that_are_exchanged_are_refused():
    with pytest.raises(DataError, match=r"mass index of 347 kg/m2, expected 5 to 100; are they ex"):
        mosteller_m2(70, 170)


def test_the_area_follows_from_height_and_weight_or_is_given():
    given = {"height_cm": None, "weight_kg": None, "area_m2": None}

    assert body_surface_m2(**given) is None
    assert body_surface_m2(**given | {"area_m2": 1.9}) == 1.9
    assert body_surface_m2(**given | {"height_cm": 180, "weight_kg": 80}) == pytest.approx(2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"area_m2": 0}, r"body surface area: expected 0\.05 to 4 m2, got 0"),
        ({"area_m2": float("nan")}, r"body surface area: expected 0\.05 to 4 m2, got nan"),
        ({"height_cm": 180}, "the height is given and the weight is not"),
        ({"weight_kg": 80}, "the weight is given and the height is not"),
        ({"height_cm": 180, "weight_kg": 80, "area_m2": 2}, "follows from height and weight"),
    ],
)
def test_what_is_no_body_surface_area_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        body_surface_m2(**{"height_cm": None, "weight_kg": None, "area_m2": None} | given)
