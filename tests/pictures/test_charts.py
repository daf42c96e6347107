import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from heartseg.errors import DataError
from heartseg.pictures.charts import draw_bar_charts, draw_curves
from heartseg.slices.store import read_color


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        saved.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def test_a_validation_curve_is_dashed_in_the_colour_of_its_training_curve(tmp_path, figures):
    curves = {"loss": [3.0, 2.0], "val_loss": [4.0, 3.5], "dice": [0.1, 0.2]}

    draw_curves(tmp_path / "a.png", [1, 2], curves)

    (axes,) = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["loss", "val_loss", "dice"]
    assert {name: line.get_linestyle() for name, line in lines.items()} == {
        "loss": "-",
        "val_loss": "--",
        "dice": "-",
    }
    colors = {name: to_hex(line.get_color()) for name, line in lines.items()}
    assert colors["loss"] == colors["val_loss"] != colors["dice"]
    np.testing.assert_array_equal(lines["val_loss"].get_xydata(), [[1, 4.0], [2, 3.5]])
    assert axes.get_xlabel() == "epoch"


def test_epochs_have_whole_numbers_and_a_missing_value_leaves_a_gap(tmp_path, figures):
    draw_curves(tmp_path / "a.png", [1, 2, 3], {"loss": [1.0, float("nan"), 2.0]})

    (axes,) = figures[0].axes
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == [False, True, False]


def test_curves_of_no_epoch_can_be_drawn(tmp_path):
    draw_curves(tmp_path / "a.png", [], {})

    # 8 x 5 inches of 100 pixels.
    assert read_color(tmp_path / "a.png").shape == (500, 800, 3)


def test_each_chart_has_its_bars_and_the_label_of_its_axis(tmp_path, figures):
    charts = {"cases": {"train": 3, "test": 1}, "slices": {"train": 1200, "test": 40}}

    draw_bar_charts(tmp_path / "a.png", charts, title="4 cases")

    assert figures[0].get_suptitle() == "4 cases"
    assert [axes.get_ylabel() for axes in figures[0].axes] == ["cases", "slices"]
    for axes, bars in zip(figures[0].axes, charts.values(), strict=True):
        assert [bar.get_height() for bar in axes.patches] == list(bars.values())
        assert [label.get_text() for label in axes.get_xticklabels()] == ["train", "test"]
    assert [text.get_text() for text in figures[0].axes[1].texts] == ["1,200", "40"]
    # Bars are counts: no chart of 3 cases has ticks at 0.5.
    assert all(float(tick).is_integer() for tick in figures[0].axes[0].get_yticks())


def test_charts_of_few_many_and_no_bars_can_be_drawn(tmp_path):
    few, many = {"a": 1, "b": 2}, {f"case {i}": i for i in range(30)}
    draw_bar_charts(tmp_path / "a.png", {"few": few, "many": many, "none": {}}, title="title")
    assert read_color(tmp_path / "a.png").ndim == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_name_with_dollar_signs_is_not_read_as_a_formula(tmp_path):
    draw_bar_charts(tmp_path / "a.png", {r"$\bad$": {r"$\frac$": 1}}, title=r"$\no$")
    assert (tmp_path / "a.png").is_file()


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        draw_curves(tmp_path / "file" / "a.png", [1], {"loss": [1.0]})


def test_curves_of_structures_have_their_colours_and_the_legend_hides_no_curve(tmp_path, figures):
    curves = {"mean": [0.1, 0.2], "dice_LV": [0.1, 0.3], "val_dice_LV": [0.1, 0.2]}

    draw_curves(tmp_path / "a.png", [1, 2], curves, {"dice_LV": (213, 94, 0)})

    (axes,), (legend,) = figures[0].axes, figures[0].legends
    colors = {line.get_label(): to_hex(line.get_color()) for line in axes.lines}
    assert colors["dice_LV"] == colors["val_dice_LV"] == "#d55e00"
    assert colors["mean"] == "#000000"
    box, beside = axes.get_window_extent(), legend.get_window_extent()
    assert beside.x0 >= box.x1
    assert beside.x1 <= 800
