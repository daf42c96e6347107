import numpy as np
import pytest

from heartseg.labels import HVSMR
from heartseg.pictures.charts import draw_bar_charts
from heartseg.pictures.sheets import contact_sheet, evenly_spaced, overlay
from heartseg.slices.store import read_color


def test_an_overlay_mixes_colour_and_grey_and_keeps_the_background():
    image = np.array([[100, 100], [0, 255]], np.uint8)
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    drawn = overlay(image, labels, HVSMR, opacity=0.5)
    assert drawn.tolist() == [[[100] * 3, [178, 50, 50]], [[128, 0, 0], [255] * 3]]


def test_an_overlay_of_opacity_1_shows_the_pure_colours():
    labels = np.arange(9, dtype=np.uint8).reshape(3, 3)
    drawn = overlay(np.zeros((3, 3), np.uint8), labels, HVSMR, opacity=1)
    np.testing.assert_array_equal(drawn, HVSMR.colorize(labels))


def test_a_sheet_is_filled_row_by_row():
    tiles = [np.full((4, 4), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(tiles, columns=2, tile=8)
    assert sheet.shape == (16, 16, 3)
    assert [sheet[y, x, 0] for y, x in ((0, 0), (0, 8), (8, 0), (8, 8))] == [10, 20, 30, 0]


def test_tiles_keep_their_proportions_and_colours():
    labels = np.arange(9, dtype=np.uint8).repeat(4).reshape(9, 4)
    sheet = contact_sheet([HVSMR.colorize(labels)], columns=1, tile=18)
    assert sheet[:, :5].max() == 0  # 9 x 4 becomes 18 x 8, in the middle
    np.testing.assert_array_equal(np.unique(HVSMR.decode(sheet)), np.arange(9))


def test_a_sheet_of_nothing_is_black():
    assert contact_sheet([], columns=3, tile=5).shape == (5, 15, 3)


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(5, 9, [0, 1, 2, 3, 4]), (10, 2, [0, 9]), (7, 3, [0, 3, 6]), (1, 1, [0]), (9, 1, [0])],
)
def test_samples_are_spread_evenly(count, wanted, expected):
    assert evenly_spaced(count, wanted) == expected


def test_charts_are_drawn_for_few_and_many_bars(tmp_path):
    few, many = {"a": 1, "b": 2}, {f"case {i}": i for i in range(30)}
    draw_bar_charts(tmp_path / "a.png", {"few": few, "many": many, "none": {}}, title="title")
    assert read_color(tmp_path / "a.png").ndim == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_name_with_dollar_signs_is_no_formula(tmp_path):
    draw_bar_charts(tmp_path / "a.png", {r"$\bad$": {r"$\frac$": 1}}, title=r"$\no$")
    assert (tmp_path / "a.png").is_file()
