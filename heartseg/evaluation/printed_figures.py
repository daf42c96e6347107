"""The figures of an evaluation for print, as SVG or PDF."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heartseg.evaluation.figures import OUTLINE, SCOPE_COLORS, agreement_lines, confusion_percent
from heartseg.evaluation.scores import ABSENT, WHOLE_HEART, WHOLE_HEART_NAME, Scores
from heartseg.files import replacing
from heartseg.pictures.charts import NO_DATE, draw_curves

FIGURES_DIR = "figures"
PLAIN: dict[Any, Any] = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "heartseg"}
"""Text stays text, so that an editor finds it, and equal scores give equal files."""
WIDTH = 7.0
"""Inches: the text of a page."""
JITTER = 0.12
"""How far the dots of a box lie beside its middle, as a fraction of its width."""
DASHES = {"solid": "-", "dash": "--"}
"""Plotly's names of lines, and Matplotlib's."""
DOT: dict[str, Any] = {"s": 14, "edgecolors": OUTLINE, "linewidths": 0.4}


def draw_figures(
    folder: Path, scores: Scores, training: Mapping[str, Sequence[float]], ending: str
) -> None:
    """Draw each flat figure of the report into a file of its own.

    Args:
        folder: Folder of the files; made if missing.
        scores: The scores of all cases.
        training: Values per epoch of training, by name; may be empty.
        ending: ``svg`` or ``pdf``.

    Raises:
        DataError: If a file cannot be written.
    """
    drawings: dict[str, Callable[[Scores], Figure]] = {
        "dice": lambda given: _draw_boxes(given, "dice", "Dice"),
        "hd95": lambda given: _draw_boxes(given, "hd95_mm", "HD95 (mm)"),
        "volume": _draw_dice_against_volume,
        "bland_altman": _draw_agreement,
        "confusion": _draw_confusion,
    }
    with rc_context(PLAIN):
        for name, draw in drawings.items():
            with replacing(folder / f"{name}.{ending}") as temporary:
                draw(scores).savefig(temporary, metadata=NO_DATE[temporary.suffix])
        losses = {name: curve for name, curve in training.items() if "loss" in name}
        others = {name: curve for name, curve in training.items() if name not in losses}
        for name, curves in (("losses", losses), ("metrics", others)):
            if curves:
                epochs = range(1, 1 + max(map(len, curves.values())))
                draw_curves(folder / f"training_{name}.{ending}", epochs, curves)


def _draw_boxes(scores: Scores, measure: str, title: str) -> Figure:
    """Draw one box per structure and scope, with one dot per patient."""
    figure, axes = _begin(3.2)
    structures = [*scores.structures, WHOLE_HEART]
    width = 0.7 / len(scores.scopes)
    for number, scope in enumerate(scores.scopes):
        shift = (number - (len(scores.scopes) - 1) / 2) * width
        for position, structure in enumerate(structures):
            rows = [row for row in scores.column(structure, scope=scope) if row.flag != ABSENT]
            values = [getattr(row, measure) for row in rows]
            color = SCOPE_COLORS[scope]
            axes.boxplot(
                [values],
                positions=[position + shift],
                widths=0.9 * width,
                # The dots show all patients, outliers too.
                showfliers=False,
                boxprops={"color": color},
                whiskerprops={"color": color},
                capprops={"color": color},
                medianprops={"color": OUTLINE},
            )
            spread = np.random.default_rng(position).uniform(-JITTER, JITTER, len(values)) * width
            # White and yellow dots need an outline on a white background.
            axes.scatter(position + shift + spread, values, color=color, zorder=3, **DOT)
        axes.scatter([], [], color=SCOPE_COLORS[scope], label=scope)
    names = [WHOLE_HEART_NAME if key == WHOLE_HEART else key for key in structures]
    axes.set_xticks(range(len(structures)), names)
    axes.set_ylabel(title)
    axes.set_ylim(bottom=0)
    if len(scores.scopes) > 1:
        _add_legend(axes)
    return figure


def _draw_dice_against_volume(scores: Scores) -> Figure:
    figure, axes = _begin(3.6)
    for structure in scores.table.foreground:
        rows = [row for row in scores.column(structure.key) if row.volume_reference_ml > 0]
        axes.scatter(
            [row.volume_reference_ml for row in rows],
            [row.dice for row in rows],
            color=_to_unit(scores.table.display_color(structure)),
            label=structure.key,
            **DOT,
        )
    axes.set_xscale("log")
    axes.set_xlabel("reference volume (mL)")
    axes.set_ylabel("Dice")
    axes.set_ylim(bottom=0)
    _add_legend(axes)
    return figure


def _draw_agreement(scores: Scores) -> Figure:
    """Draw the difference of the volumes against their mean, one panel per structure."""
    structures = scores.table.foreground
    columns = min(4, len(structures))
    rows = -(-len(structures) // columns)
    figure = Figure(figsize=(WIDTH, 1.8 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(structures) :]:
        panel.set_axis_off()
    for panel, structure in zip(panels, structures, strict=False):
        scored = [row for row in scores.column(structure.key) if row.flag != ABSENT]
        differences = np.array([row.volume_difference_ml for row in scored])
        panel.scatter(
            [(row.volume_prediction_ml + row.volume_reference_ml) / 2 for row in scored],
            differences,
            color=_to_unit(scores.table.display_color(structure)),
            **DOT,
        )
        for level, dash in agreement_lines(differences):
            panel.axhline(level, color=OUTLINE, linewidth=0.8, linestyle=DASHES[dash])
        panel.set_title(structure.key, fontsize="medium")
        panel.tick_params(labelsize="small")
    figure.supxlabel("mean of both volumes (mL)", fontsize="medium")
    figure.supylabel("prediction - reference (mL)", fontsize="medium")
    return figure


def _draw_confusion(scores: Scores) -> Figure:
    """Draw how the voxels of each reference structure are labelled, in percent of its voxels."""
    figure, axes = _begin(4.2)
    percent = confusion_percent(scores)
    names = [structure.key for structure in scores.table.structures]
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in zip(*np.nonzero(percent >= 0.05), strict=True):
        value = percent[row, column]
        color = "white" if value > 60 else "black"
        axes.text(
            column, row, f"{value:.1f}", ha="center", va="center", color=color, fontsize="small"
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names) - 1), names[1:])
    axes.set_xlabel("predicted as")
    axes.set_ylabel("reference")
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="%")
    return figure


def _begin(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _add_legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)


def _to_unit(color: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = color
    return red / 255, green / 255, blue / 255
