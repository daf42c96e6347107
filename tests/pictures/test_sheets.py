import numpy as np
import pytest

from heartseg.labels import HVSMR
from heartseg.pictures.sheets import contact_sheet, evenly_spaced


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


def test_a_sheet_without_slices_is_black():
    assert contact_sheet([], columns=3, tile=5).shape == (5, 15, 3)


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(5, 9, [0, 1, 2, 3, 4]), (10, 2, [0, 9]), (7, 3, [0, 3, 6]), (1, 1, [0]), (9, 1, [0])],
)
def test_indices_are_evenly_spaced(count, wanted, expected):
    assert evenly_spaced(count, wanted) == expected
