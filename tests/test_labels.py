import pickle
from dataclasses import replace

import numpy as np
import pytest

from heartseg.errors import ConfigError, DataError
from heartseg.labels import HVSMR, LabelTable, Structure, build_label_table

PUBLISHED = {
    "LV": (255, 0, 0),
    "RV": (0, 0, 255),
    "LA": (255, 255, 0),
    "RA": (0, 255, 255),
    "AO": (0, 255, 0),
    "PA": (255, 255, 255),
    "SVC": (255, 0, 255),
    "IVC": (128, 128, 128),
}


def test_the_table_has_the_published_colours_in_the_published_order():
    assert {s.key: s.color for s in HVSMR.foreground} == PUBLISHED
    assert [s.value for s in HVSMR.structures] == list(range(9))
    assert HVSMR.structures[0].color == (0, 0, 0)
    assert HVSMR.num_classes == 9


def test_labels_survive_the_way_to_colours_and_back():
    labels = np.random.default_rng(0).integers(0, 9, (5, 7, 3), dtype=np.uint8)

    colors = HVSMR.colorize(labels)

    assert colors.shape == (5, 7, 3, 3)
    assert colors.dtype == np.uint8
    np.testing.assert_array_equal(HVSMR.decode(colors), labels)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64])
def test_labels_of_any_integer_type_get_the_same_colours(dtype):
    labels = np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(HVSMR.colorize(labels.astype(dtype)), HVSMR.palette[labels])


def test_empty_maps_stay_empty():
    assert HVSMR.colorize(np.zeros((0, 4), np.uint8)).shape == (0, 4, 3)
    assert HVSMR.decode(np.zeros((0, 4, 3), np.uint8)).shape == (0, 4)


def test_a_colour_that_is_not_in_the_table_is_reported_with_file_and_pixel():
    colors = np.zeros((4, 6, 3), np.uint8)
    colors[2, 5] = (255, 0, 1)
    colors[3, 0] = (1, 2, 3)

    with pytest.raises(DataError) as caught:
        HVSMR.decode(colors, source="masks/pat1_003.png")

    text = str(caught.value)
    assert text.startswith("masks/pat1_003.png: ")
    assert "(2, 5)" in text
    assert "(255, 0, 1)" in text
    assert "number of such pixels: 2" in text


@pytest.mark.parametrize(
    ("value", "found"), [(9, "9"), (-1, "-1"), (300, "300"), (1e300, r"1e\+300")]
)
def test_a_value_outside_the_table_is_refused(value, found):
    labels = np.zeros((2, 3), np.min_scalar_type(value))
    labels[1, 1] = value
    with pytest.raises(DataError, match=rf"map\.nii: expected label values 0 to 8, found {found}$"):
        HVSMR.check_values(labels, source="map.nii")
    with pytest.raises(DataError, match="expected label values"):
        HVSMR.colorize(labels)


def test_every_colour_but_the_nine_is_unknown():
    assert np.count_nonzero(HVSMR.color_codes != 255) == 9


def test_what_is_computed_of_a_table_does_not_travel_to_other_processes():
    table = LabelTable(HVSMR.structures)
    codes = table.color_codes

    content = pickle.dumps(table)

    assert len(content) < 5000 < codes.nbytes
    received = pickle.loads(content)  # noqa: S301 - made a line ago
    assert received == table
    np.testing.assert_array_equal(received.color_codes, codes)


def test_structures_may_come_in_any_order():
    assert build_label_table(HVSMR.structures[::-1]) == HVSMR


def structure(value, key="k", color=(1, 1, 1)):
    return Structure(value, f"{key}{value}", "name", (color[0] + value, *color[1:]))


@pytest.mark.parametrize("values", [[], [0], [1, 2], [0, 2], [0, 0, 1], [0, 1, 3]])
def test_values_with_gaps_are_refused(values):
    with pytest.raises(ConfigError, match=r"without gaps, found \["):
        LabelTable(tuple(structure(value) for value in values))


def test_a_colour_or_a_key_used_twice_is_refused():
    black = Structure(0, "background", "background", (0, 0, 0))
    with pytest.raises(ConfigError, match=r"the color \(0, 0, 0\) is used more than once"):
        LabelTable((black, Structure(1, "LV", "ventricle", (0, 0, 0))))
    with pytest.raises(ConfigError, match="the key background is used more than once"):
        LabelTable((black, Structure(1, "background", "ventricle", (1, 0, 0))))


def test_display_colours_are_no_part_of_what_a_table_is():
    chosen = build_label_table(
        [replace(s, display_color=(s.value, 9, 9)) for s in HVSMR.structures]
    )

    assert chosen == HVSMR
    assert chosen.description == HVSMR.description
    assert chosen.description[6] == {
        "value": 6,
        "key": "PA",
        "name": "pulmonary artery",
        "color": (255, 255, 255),
    }
    assert chosen.display(np.array([[6]])).tolist() == [[[6, 9, 9]]]
    assert chosen.colorize(np.array([[6]])).tolist() == [[[255, 255, 255]]]


def test_a_table_takes_the_display_colours_of_another_by_key():
    other = build_label_table(
        [
            Structure(0, "background", "background", (0, 0, 0)),
            Structure(1, "PA", "pulmonary trunk", (1, 1, 1), (10, 20, 200)),
        ]
    )

    table = HVSMR.displayed_as(other)

    assert table.display_color(HVSMR.structures[6]) == (10, 20, 200)
    assert table.display_color(HVSMR.structures[1]) == HVSMR.display_color(HVSMR.structures[1])


def test_a_display_colour_that_occurs_twice_is_an_error():
    with pytest.raises(ConfigError, match=r"the display_color \(1, 2, 3\) is used more than once"):
        build_label_table([replace(s, display_color=(1, 2, 3)) for s in HVSMR.structures])


def test_what_is_no_label_cannot_be_displayed():
    with pytest.raises(DataError, match="0 to 8, found 9"):
        HVSMR.display(np.array([9]))
