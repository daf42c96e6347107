"""Charts: bars of a data set, curves of a training; drawn without pyplot, which has a state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heartseg.files import replacing

NO_DATE: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Metadata of Matplotlib's files by their ending: equal figures are equal files."""


def draw_curves(
    file: Path,
    epochs: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    colors: Mapping[str, tuple[int, int, int]] | None = None,
) -> None:
    """Draw values over epochs; ``val_NAME`` is dashed, in the colour of ``NAME``.

    Args:
        file: PNG, SVG or PDF to write.
        epochs: Numbers of the epochs.
        curves: One value per epoch by name; NaN leaves a gap.
        colors: Red, green, blue of some names, such as those of structures; the others differ.

    Raises:
        DataError: If the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    chosen = _color_names(curves, colors or {})
    for key, values in curves.items():
        name = key.removeprefix("val_")
        style = "-" if key == name else "--"
        axes.plot(epochs, values, style, color=chosen[name], marker=".", label=key)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if curves:
        # Beside the curves, which it would hide: there may be two for each structure.
        figure.legend(loc="outside right upper", fontsize="small")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=100, metadata=NO_DATE.get(file.suffix))


def _color_names(
    curves: Mapping[str, Sequence[float]], colors: Mapping[str, tuple[int, int, int]]
) -> dict[str, str]:
    """Return the colour of each curve, as Matplotlib knows it."""
    names = list(dict.fromkeys(key.removeprefix("val_") for key in curves))
    # Black and grey are no structure's, so the others stand out among them.
    others = iter([*(f"C{number}" for number in range(10))] * len(names))
    if colors.keys() & set(names):
        others = iter(["black", "dimgray", "darkgray"] * len(names))
    return {
        name: "#{:02x}{:02x}{:02x}".format(*colors[name]) if name in colors else next(others)
        for name in names
    }


def draw_bar_charts(file: Path, charts: Mapping[str, Mapping[str, float]], *, title: str) -> None:
    """Draw bar charts, one below the other.

    Args:
        file: PNG to write.
        charts: Name and height (a count) of the bars of each chart, by the label of its axis.
        title: Title above all charts.

    Raises:
        DataError: If the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3.2 * len(charts)), layout="constrained")
    figure.suptitle(_plain(title))
    for axes, (label, bars) in zip(
        np.atleast_1d(figure.subplots(len(charts))), charts.items(), strict=True
    ):
        drawn = axes.bar([_plain(name) for name in bars], list(bars.values()), color="#4878a8")
        axes.set_ylabel(_plain(label))
        # The bars are counts.
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(bars) <= 20:
            axes.bar_label(drawn, fmt="{:,.0f}")
        else:
            axes.tick_params(axis="x", labelrotation=90, labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _plain(text: str) -> str:
    """Escape dollar signs, between which Matplotlib would expect a formula."""
    return text.replace("$", r"\$")
