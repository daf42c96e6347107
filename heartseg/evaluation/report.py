"""The files of an evaluation: ``cases.csv``, ``summary.json`` and ``report.html``."""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from heartseg import __version__
from heartseg.evaluation import figures
from heartseg.evaluation.scoring import COLUMNS, FULL, WHOLE_HEART, Scores, StructureScore
from heartseg.evaluation.summary import Context, build_summary
from heartseg.files import replacing, write_json
from heartseg.pictures.case_pictures import OrientedCase, Picture, draw_case

NUM_SHOWN = 3
"""How many of the worst and of the best cases are shown."""
SUMMARY_COLUMNS = (
    ("dice", "Dice", 3),
    ("iou", "IoU", 3),
    ("hd95_mm", "HD95 (mm)", 1),
    ("assd_mm", "ASSD (mm)", 2),
    ("nsd", "NSD", 3),
)
"""What the page's summary shows; the other measures are in ``summary.json``."""


@dataclass(frozen=True)
class Material:
    """What a report shows beside scores; all of it may be missing.

    Attributes:
        title: Heading of the report.
        read_view: Reads a case for its pictures, given its name; None if it cannot be shown.
        training: What was recorded each epoch of training, by name.
        details: Texts shown at the end by title, such as the configuration and the environment.
    """

    title: str = "Scores of whole-heart segmentation"
    read_view: Callable[[str], OrientedCase | None] | None = None
    training: Mapping[str, Sequence[float]] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Figure:
    id: str
    title: str
    note: str
    json: Markup


@dataclass(frozen=True)
class _ShownCase:
    rank: str
    name: str
    dice: float
    pictures: Sequence[Picture]


def write_evaluation(
    output_dir: Path, scores: Scores, context: Context, material: Material | None = None
) -> dict[str, Any]:
    """Write the scores of an evaluation and their report.

    Args:
        output_dir: Folder of the files; made if missing.
        scores: The scores of all cases.
        context: What is reported beside them.
        material: What the report shows beside them.

    Returns:
        The summary, as it stands in ``summary.json``.

    Raises:
        DataError: If a file cannot be written.
    """
    summary = build_summary(scores, context)
    write_cases(output_dir / "cases.csv", scores.rows)
    write_json(output_dir / "summary.json", summary)
    page = render_report(scores, summary, material or Material())
    with replacing(output_dir / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return summary


def write_cases(file: Path, rows: Sequence[StructureScore]) -> None:
    """Write one line a case, structure and scope; what has no value is an empty cell.

    Raises:
        DataError: If the file cannot be written.
    """
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(row, column)) for column in COLUMNS] for row in rows)


def render_report(scores: Scores, summary: Mapping[str, Any], material: Material) -> str:
    """Build the report: one HTML page that needs no other file and no network.

    Args:
        scores: The scores of all cases.
        summary: The content of ``summary.json``.
        material: What is shown beside them.

    Returns:
        The page.
    """
    # Names of cases and files come from outside: everything is escaped but what is made here.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("heartseg.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    )
    ranked = _rank(scores)
    shown = list(_draw_extremes(scores, ranked, material))
    typical = _read_view(material, ranked[len(ranked) // 2]) if ranked else None
    provenance = json.dumps(summary["provenance"], indent=2, ensure_ascii=False)
    sections = {
        "summary": "Summary",
        "groups": "Groups",
        "figures": "Figures",
        "cases": "Worst and best",
        "patients": "Patients",
        "policy": "How this is counted",
        "provenance": "Configuration and environment",
    }
    if not summary["groups"]:
        del sections["groups"]
    if not shown:
        del sections["cases"]
    return template.render(
        title=material.title,
        version=__version__,
        summary=summary,
        sections=sections.items(),
        table=scores.table,
        colors={s.key: f"rgb{s.color}" for s in scores.table.foreground},
        names={
            **{s.key: f"{s.key} {s.name}" for s in scores.table.foreground},
            WHOLE_HEART: "whole heart as one",
        },
        keys=(*scores.structures, WHOLE_HEART),
        columns=SUMMARY_COLUMNS,
        figures=_build_figures(scores, material, typical),
        shown=shown,
        patients=_patients(scores),
        details={"Provenance": provenance, **material.details}.items(),
        plotly_js=Markup(plotly.offline.get_plotlyjs()),  # noqa: S704 - the library itself
    )


def _build_figures(scores: Scores, material: Material, view: OrientedCase | None) -> list[_Figure]:
    built = [
        _figure(
            "dice",
            "Dice by structure",
            "A dot a patient. Boxes span the quartiles, the line inside is the median.",
            figures.box_plots(scores, "dice", title="Dice"),
        ),
        _figure(
            "hd95",
            "HD95 by structure",
            "95th percentile of the surface distances; a structure that only one map holds counts "
            "with the diagonal of the image.",
            figures.box_plots(scores, "hd95_mm", title="HD95 (mm)"),
        ),
        _figure(
            "volume",
            "Dice against volume",
            "Of two structures with equal surface errors the smaller one has the lower Dice.",
            figures.dice_against_volume(scores),
        ),
        _figure(
            "bland-altman",
            "Agreement of volumes (Bland-Altman)",
            "Line: mean difference. Dashed: limits of agreement, 1.96 standard deviations.",
            figures.bland_altman(scores),
        ),
        _figure(
            "confusion",
            "Confusion between structures",
            "Share of each reference structure's voxels by what they are predicted as, in percent, "
            "all patients together.",
            figures.confusion(scores),
        ),
    ]
    if material.training:
        built.append(
            _figure(
                "training",
                "Training",
                "What was recorded each epoch.",
                figures.training_curves(material.training),
            )
        )
    if view is not None:
        built.append(
            _figure(
                "surfaces",
                f"Surfaces of {view.case}",
                "The case of median Dice. Drag to turn both; click a structure to hide it. "
                "Coarsened and smoothed for display.",
                figures.surfaces(view, scores.table),
            )
        )
    return built


def _figure(name: str, title: str, note: str, figure: go.Figure) -> _Figure:
    # A case named "</script>" must not end the element that holds the figure.
    content = str(figure.to_json()).replace("<", "\\u003c")
    return _Figure(name, title, note, Markup(content))  # noqa: S704 - JSON without any tag


def _rank(scores: Scores) -> list[str]:
    """Return the cases with a score, the worst first."""
    by_dice = [(case.macro("dice"), case.case) for case in scores.cases]
    return [name for dice, name in sorted(by_dice, key=lambda e: e[0]) if not math.isnan(dice)]


def _read_view(material: Material, case: str) -> OrientedCase | None:
    return material.read_view(case) if material.read_view else None


def _draw_extremes(
    scores: Scores, ranked: Sequence[str], material: Material
) -> Iterator[_ShownCase]:
    count = min(NUM_SHOWN, len(ranked))
    worst, best = ranked[:count], ranked[max(count, len(ranked) - NUM_SHOWN) :][::-1]
    dice = {case.case: case.macro("dice") for case in scores.cases}
    for rank, names in (("worst", worst), ("best", best)):
        for position, name in enumerate(names, 1):
            view = _read_view(material, name)
            if view is not None:
                pictures = draw_case(view, scores.table)
                yield _ShownCase(f"{rank} {position}", name, dice[name], pictures)


def _patients(scores: Scores) -> list[dict[str, Any]]:
    """Return one row a case for the table of patients; None where there is no value."""
    return [
        {
            "name": case.case,
            "has_prediction": case.has_prediction,
            "structures": [
                {"dice": _or_none(row.dice), "flag": row.flag.replace("_", " ")}
                for row in case.rows
                if row.scope == FULL
            ],
            **{name: _or_none(case.macro(name)) for name in ("dice", "hd95_mm", "nsd")},
        }
        for case in scores.cases
    ]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.6f}"
