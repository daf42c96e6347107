import pytest

from heartseg.errors import DataError
from heartseg.measurements.body_surface import check_area_m2, mosteller_m2


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
    with pytest.raises(DataError, match=r"body surface area: expected 0\.05 to 4 m2, got 0"):
        check_area_m2(0)
    check_area_m2(1.9)
