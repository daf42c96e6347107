"""Colours under dichromacy, simulated by other formulas than those that chose them."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from heartseg.labels import DISPLAY_COLORS, HVSMR, LabelTable, Structure
from heartseg.palette import distinct_colors

# Viénot, Brettel, Mollon (1999). Color Res Appl 24(4): from linear RGB to the responses of the
# long-, middle- and short-wave cones, and what a missing kind of cone is replaced by.
TO_CONES = np.array(
    [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
)
PROTANOPE = np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]])
DEUTERANOPE = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
EYES = {"trichromat": np.eye(3), "protanope": PROTANOPE, "deuteranope": DEUTERANOPE}


def seen_by(eye, colors):
    """Return the CIE Lab values of what an eye sees, for colours from 0 to 255."""
    levels = np.asarray(colors) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    turned = np.linalg.inv(TO_CONES) @ EYES[eye] @ TO_CONES @ linear.T
    seen = np.clip(turned.T, 0, 1)
    encoded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(encoded)


def nearest_pair(eye, colors):
    lab = seen_by(eye, colors)
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    return distances[np.triu_indices(len(lab), 1)].min()


def test_the_simulation_confuses_what_dichromats_confuse():
    """Red and green of equal brightness, and nothing for the trichromat."""
    red, green = (200, 80, 60), (105, 127, 60)
    assert nearest_pair("trichromat", [red, green]) > 50
    assert nearest_pair("deuteranope", [red, green]) < 10


@pytest.mark.parametrize("eye", EYES)
def test_the_display_colours_of_the_heart_stay_apart(eye):
    # 2.3 is the least difference that is seen side by side.
    assert nearest_pair(eye, list(DISPLAY_COLORS.values())) > 25


def test_the_published_colours_do_not_stand_the_same_test():
    assert nearest_pair("protanope", HVSMR.palette[1:]) < 25


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(("count", "least"), [(12, 15), (20, 10)])
def test_generated_colours_stay_apart(eye, count, least):
    assert nearest_pair(eye, distinct_colors(count)) > least


@pytest.mark.parametrize(
    "colors", [list(DISPLAY_COLORS.values()), distinct_colors(60)], ids=["heart", "generated"]
)
def test_no_display_colour_is_white_grey_or_black(colors):
    lab = seen_by("trichromat", colors)
    assert np.hypot(lab[:, 1], lab[:, 2]).min() > 28
    assert lab[:, 0].min() > 30


def test_colours_keep_away_from_those_that_are_taken():
    taken = list(DISPLAY_COLORS.values())

    chosen = distinct_colors(4, taken)

    assert len(set(chosen)) == 4
    for eye in EYES:
        assert nearest_pair(eye, [*taken, *chosen]) > 15


def test_no_colours_are_asked_for():
    assert distinct_colors(0) == []


def make_table(*shown, keys=None):
    keys = keys or [f"s{value}" for value in range(1, len(shown) + 1)]
    structures = [Structure(0, "background", "background", (0, 0, 0))]
    for value, (key, color) in enumerate(zip(keys, shown, strict=True), 1):
        structures.append(Structure(value, key, key, (value, 0, 0), color))
    return LabelTable(tuple(structures))


def test_structures_of_the_heart_have_their_named_colours_in_any_table():
    table = make_table(None, None, keys=["IVC", "LV"])

    shown = table.display_palette.tolist()

    assert shown == [[0, 0, 0], list(DISPLAY_COLORS["IVC"]), list(DISPLAY_COLORS["LV"])]


def test_a_given_colour_wins_and_no_other_structure_takes_it():
    table = make_table(None, DISPLAY_COLORS["LV"], keys=["LV", "mine"])

    palette = table.display_palette

    assert tuple(palette[2]) == DISPLAY_COLORS["LV"]
    assert tuple(palette[1]) != DISPLAY_COLORS["LV"]


def test_the_largest_table_has_a_colour_for_each_structure():
    palette = make_table(*[None] * 254).display_palette

    assert palette.shape == (255, 3)
    assert len(np.unique(palette, axis=0)) == 255
