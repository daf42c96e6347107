import numpy as np
import pytest

from heartseg.labels import HVSMR
from heartseg.pictures.annotations import annotate, bar_length_mm, draw_legend


@pytest.mark.parametrize(
    ("width_mm", "length_mm"), [(3, 1), (60, 20), (149, 20), (150, 50), (320, 100), (0.7, 0.2)]
)
def test_a_bar_has_the_longest_round_length_within_a_third(width_mm, length_mm):
    assert bar_length_mm(width_mm) == pytest.approx(length_mm)


def test_the_bar_is_as_long_as_it_says():
    picture = annotate(np.zeros((120, 200, 3), np.uint8), step_mm=0.5)

    # 100 mm wide: the bar has 20 mm, 40 pixels, in the lowest rows.
    white = (picture == 255).all(axis=-1)
    row = white[-10:].sum(axis=1).max()
    assert row == pytest.approx(40, abs=1)


def test_marks_stand_at_their_sides_and_nowhere_else():
    black = np.zeros((100, 140, 3), np.uint8)
    strips = {
        "top": (slice(0, 25), slice(50, 90)),
        "bottom": (slice(75, 100), slice(50, 90)),
        "left": (slice(30, 70), slice(0, 30)),
        "right": (slice(30, 70), slice(110, 140)),
    }
    for position, strip in enumerate(strips):
        marks = ["", "", "", ""]
        marks[position] = "A"

        picture = annotate(black, marks=tuple(marks))

        assert picture[strips[strip]].max() == 255
        assert picture.sum() == picture[strips[strip]].sum()
    assert not black.any()


def test_a_caption_stands_in_the_upper_left_corner():
    picture = annotate(np.zeros((100, 200, 3), np.uint8), caption="axial 3/9")

    assert picture[:25, :80].max() == 255
    assert not picture[30:].any()
    assert not picture[:, 100:].any()


def colors_of(picture):
    return set(map(tuple, picture.reshape(-1, 3).tolist()))


def test_the_legend_shows_the_display_colours_of_what_is_there():
    present = np.ones(9, bool)
    present[2] = False

    legend = draw_legend(HVSMR, present, width=1200)

    assert legend.shape[1] == 1200
    shown = {
        s.key: int((legend == HVSMR.display_palette[s.value]).all(axis=-1).sum())
        for s in HVSMR.foreground
    }
    # A swatch is 15 x 15; of an absent structure only its frame is drawn.
    assert shown["LV"] == shown["IVC"] == 225
    assert shown["RV"] == 56


def test_a_narrow_legend_is_higher():
    present = np.ones(9, bool)
    wide, narrow = (draw_legend(HVSMR, present, width=width) for width in (1200, 300))

    assert narrow.shape[0] > 2 * wide.shape[0]
    assert colors_of(narrow) >= set(map(tuple, HVSMR.display_palette[1:].tolist()))


def test_a_short_legend_leaves_out_what_is_absent():
    present = np.zeros(9, bool)
    present[5] = True

    legend = draw_legend(HVSMR, present, width=200, names=False)

    assert tuple(HVSMR.display_palette[5].tolist()) in colors_of(legend)
    assert tuple(HVSMR.display_palette[1].tolist()) not in colors_of(legend)
    assert draw_legend(HVSMR, np.zeros(9, bool), width=200, names=False).shape == (0, 200, 3)
