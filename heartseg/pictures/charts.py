"""Charts: bars of a data set, curves of a training. Drawn without pyplot, which keeps a state."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from heartseg.files import replacing


def draw_curves(file: Path, epochs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    """Draw values over epochs; ``val_NAME`` is dashed, in the colour of ``NAME``.

    Args:
        file: PNG to write.
        epochs: The epochs.
        curves: Values of each epoch by name; NaN leaves a gap.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(key.removeprefix("val_") for key in curves))
    for key, values in curves.items():
        name = key.removeprefix("val_")
        style = "-" if key == name else "--"
        color = f"C{names.index(name)}"
        axes.plot(epochs, values, style, color=color, marker=".", label=key)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize="small")
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=100)


def draw_bar_charts(file: Path, charts: Mapping[str, Mapping[str, float]], *, title: str) -> None:
    """Draw one bar chart below the other.

    Args:
        file: PNG to write.
        charts: Bars (name and height) by the label of their axis.
        title: Stands on top.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2 * len(charts)), layout="constrained")
    figure.suptitle(_plain(title))
    for axes, (label, bars) in zip(
        np.atleast_1d(figure.subplots(len(charts))), charts.items(), strict=True
    ):
        drawn = axes.bar([_plain(name) for name in bars], list(bars.values()), color="#4878a8")
        axes.set_ylabel(_plain(label))
        if len(bars) <= 20:
            axes.bar_label(drawn, fmt="{:,.0f}")
        else:
            axes.tick_params(axis="x", labelrotation=90, labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _plain(text: str) -> str:
    """Keep matplotlib from reading a formula between dollar signs."""
    return text.replace("$", r"\$")
