"""The interactive figures of the report, as Plotly objects."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from heartseg.evaluation.scores import (
    ABSENT,
    WHOLE_HEART,
    WHOLE_HEART_NAME,
    Scores,
    StructureScore,
)
from heartseg.labels import LabelTable
from heartseg.pictures.case_pictures import OrientedCase
from heartseg.surfaces.mesh import Mesh, build_mesh, coarsen

MESH_STEP_MM = 2.0
"""Voxel size of the surfaces: finer ones would make the page larger, but not clearer."""
OUTLINE = "#3c4450"
SCENE_COLOR = "#39424e"
SCOPE_COLORS = {"full": "#4c78a8", "required": "#f2a65a"}
AGREEMENT_DEVIATIONS = 1.96
"""Standard deviations from the mean difference to the limits of agreement."""


def box_plots(scores: Scores, measure: str, *, title: str) -> go.Figure:
    """Draw the spread of a measure over patients, one box per structure and scope."""
    figure = go.Figure()
    for scope in scores.scopes:
        rows = [row for row in scores.rows if row.scope == scope and row.flag != ABSENT]
        figure.add_box(
            x=[_name_structure(row.structure) for row in rows],
            y=[getattr(row, measure) for row in rows],
            text=[row.case for row in rows],
            name=scope,
            boxpoints="all",
            jitter=0.4,
            pointpos=0,
            marker={"size": 4, "opacity": 0.6, "color": SCOPE_COLORS[scope]},
            line={"width": 1.2},
        )
    figure.update_layout(boxmode="group", showlegend=len(scores.scopes) > 1)
    figure.update_xaxes(categoryarray=[*scores.structures, WHOLE_HEART_NAME], categoryorder="array")
    figure.update_yaxes(title=title, rangemode="tozero")
    return _finish(figure, height=380)


def dice_against_volume(scores: Scores) -> go.Figure:
    """Draw Dice against the volume of the reference, one dot per patient and structure."""
    figure = go.Figure()
    for structure in scores.table.foreground:
        rows = [row for row in scores.column(structure.key) if row.volume_reference_ml > 0]
        figure.add_scatter(
            x=[row.volume_reference_ml for row in rows],
            y=[row.dice for row in rows],
            text=[row.case for row in rows],
            mode="markers",
            name=structure.key,
            marker=_marker(scores.table.display_color(structure)),
        )
    figure.update_xaxes(title="reference volume (mL)", type="log")
    figure.update_yaxes(title="Dice", rangemode="tozero")
    return _finish(figure, height=380)


def bland_altman(scores: Scores) -> go.Figure:
    """Draw the difference of the volumes against their mean, one panel per structure.

    References:
        Bland and Altman (1986). Lancet 327. https://doi.org/10.1016/S0140-6736(86)90837-8
    """
    structures = scores.table.foreground
    columns = min(4, len(structures))
    rows = -(-len(structures) // columns)
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=[structure.key for structure in structures],
        vertical_spacing=0.2 / rows,
        x_title="mean of both volumes (mL)",
        y_title="prediction - reference (mL)",
    )
    for position, structure in enumerate(structures):
        panel = {"row": position // columns + 1, "col": position % columns + 1}
        scored = [row for row in scores.column(structure.key) if row.flag != ABSENT]
        color = scores.table.display_color(structure)
        _add_agreement(figure, scored, structure.key, color, panel)
    figure.update_layout(showlegend=False)
    return _finish(figure, height=250 * rows + 60, margin_left=70)


def _add_agreement(
    figure: go.Figure,
    rows: Sequence[StructureScore],
    name: str,
    color: tuple[int, int, int],
    panel: dict[str, int],
) -> None:
    means = [(row.volume_prediction_ml + row.volume_reference_ml) / 2 for row in rows]
    differences = np.array([row.volume_difference_ml for row in rows])
    figure.add_scatter(
        x=means,
        y=differences,
        text=[row.case for row in rows],
        mode="markers",
        name=name,
        marker=_marker(color),
        **panel,
    )
    for level, dash in agreement_lines(differences):
        figure.add_scatter(
            x=[min(means), max(means)],
            y=[level, level],
            mode="lines",
            line={"color": OUTLINE, "width": 1, "dash": dash},
            hoverinfo="y",
            **panel,
        )


def agreement_lines(differences: NDArray[np.float64]) -> list[tuple[float, str]]:
    """Return the mean difference and, for two patients or more, the limits of agreement."""
    if not differences.size:
        return []
    bias = float(differences.mean())
    if differences.size == 1:
        return [(bias, "solid")]
    spread = AGREEMENT_DEVIATIONS * float(differences.std(ddof=1))
    return [(bias, "solid"), (bias - spread, "dash"), (bias + spread, "dash")]


def confusion(scores: Scores) -> go.Figure:
    """Draw how the voxels of each reference structure are labelled, in percent of its voxels."""
    percent = confusion_percent(scores)
    names = [structure.key for structure in scores.table.structures]
    rows = names[1:]
    figure = go.Figure(
        go.Heatmap(
            z=percent[::-1],
            x=names,
            y=rows[::-1],
            text=[
                [f"{value:.1f}" if value >= 0.05 else "" for value in row] for row in percent[::-1]
            ],
            texttemplate="%{text}",
            colorscale="Blues",
            zmin=0,
            zmax=100,
            colorbar={"title": "%"},
        )
    )
    figure.update_xaxes(title="predicted as")
    figure.update_yaxes(title="reference")
    return _finish(figure, height=420)


def confusion_percent(scores: Scores) -> NDArray[np.float64]:
    """Return how the voxels of each reference structure are labelled, all patients together.

    Returns:
        ``(num_classes - 1, num_classes)`` percent of the voxels of each foreground structure; 0
        where no reference holds it. The row of the background, which is close to 100 % background
        in any case, is left out.
    """
    counts = np.zeros((scores.table.num_classes,) * 2)
    for case in scores.cases:
        counts += case.confusion
    totals = counts.sum(axis=1, keepdims=True)
    percent = np.divide(100 * counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return np.asarray(percent[1:])


def training_curves(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Draw the record of each epoch; losses and metrics have a panel each."""
    losses = {name: values for name, values in curves.items() if "loss" in name}
    others = {name: values for name, values in curves.items() if name not in losses}
    panels = [(title, part) for title, part in (("loss", losses), ("metrics", others)) if part]
    figure = make_subplots(1, len(panels), subplot_titles=[title for title, _ in panels])
    for column, (_, part) in enumerate(panels, 1):
        for name, values in part.items():
            figure.add_scatter(
                x=list(range(1, len(values) + 1)), y=list(values), name=name, row=1, col=column
            )
    figure.update_xaxes(title="epoch")
    return _finish(figure, height=360)


def surfaces(view: OrientedCase, table: LabelTable) -> go.Figure:
    """Draw the surfaces of both label maps of a case, to be rotated and to be hidden one by one."""
    titles = ("reference", "prediction")
    figure = make_subplots(
        1,
        2,
        specs=[[{"type": "scene"}] * 2],
        subplot_titles=titles,
        horizontal_spacing=0.01,
    )
    factors = tuple(max(1, round(MESH_STEP_MM / step)) for step in view.spacing_mm)
    spacing = np.multiply(factors, view.spacing_mm)
    for column, labels in enumerate((view.reference, view.prediction), 1):
        for structure in table.foreground:
            mask = labels == structure.value
            if not mask.any():
                continue
            shown = column == 1 or structure.value not in view.reference
            figure.add_trace(
                _draw_mesh(
                    build_mesh(coarsen(mask, factors), spacing_mm=spacing),
                    structure.key,
                    table.display_color(structure),
                    shown,
                ),
                row=1,
                col=column,
            )
    hidden = {"visible": False}
    figure.update_scenes(
        aspectmode="data",
        bgcolor=SCENE_COLOR,
        xaxis=hidden,
        yaxis=hidden,
        zaxis=hidden,
        camera={"eye": {"x": -0.4, "y": 1.7, "z": 0.3}},
    )
    return _finish(figure, height=480)


def _draw_mesh(mesh: Mesh, name: str, color: tuple[int, int, int], in_legend: bool) -> go.Mesh3d:
    x, y, z = np.round(mesh.vertices_mm.T, 2)
    i, j, k = mesh.triangles.T
    return go.Mesh3d(
        x=x,
        y=y,
        z=z,
        i=i,
        j=j,
        k=k,
        color=_rgb(color),
        name=name,
        legendgroup=name,
        showlegend=in_legend,
        hoverinfo="name",
        flatshading=False,
        lighting={"ambient": 0.45, "diffuse": 0.8, "specular": 0.15},
    )


def _name_structure(key: str) -> str:
    return WHOLE_HEART_NAME if key == WHOLE_HEART else key


def _finish(figure: go.Figure, *, height: int, margin_left: int = 60) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": margin_left, "r": 20, "t": 40, "b": 60},
        font={"family": "system-ui, sans-serif", "size": 12},
        # A gray background, on which white and yellow are visible.
        legend={"orientation": "v", "bgcolor": "#e6eaf0"},
    )
    return figure


def _rgb(color: tuple[int, int, int]) -> str:
    return f"rgb{color}"


def _marker(color: tuple[int, int, int]) -> dict[str, object]:
    # White and yellow dots need an outline on a white background.
    return {"size": 7, "color": _rgb(color), "line": {"width": 1, "color": OUTLINE}}
