"""The files of an evaluation: scores, their summary, tables and figures for papers, the report."""

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
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from heartseg import __version__
from heartseg.evaluation import figures
from heartseg.evaluation.paper_tables import TABLE_FILES, write_tables
from heartseg.evaluation.printed_figures import FIGURES_DIR, draw_figures
from heartseg.evaluation.scores import (
    COLUMNS,
    FULL,
    MACRO_AVERAGE_NAME,
    MEASURE_STYLES,
    WHOLE_HEART,
    WHOLE_HEART_NAME,
    Scores,
    StructureScore,
)
from heartseg.evaluation.statistics import FEWEST_FOR_INTERVAL
from heartseg.evaluation.summary import Context, build_summary
from heartseg.files import replacing, write_json
from heartseg.pictures.case_pictures import OrientedCase, Picture, draw_case

NUM_SHOWN = 3
"""Number of worst and of best cases in the report."""
SUMMARY_COLUMNS = tuple(
    (name, MEASURE_STYLES[name].title, MEASURE_STYLES[name].digits)
    for name in ("dice", "iou", "hd95_mm", "assd_mm", "nsd")
)
"""Measures in the summary of the page; the others are in ``summary.json``."""
EVALUATION_FILES = (
    "cases.csv",
    "confusion.csv",
    "summary.json",
    "report.html",
    *TABLE_FILES,
    f"{FIGURES_DIR}/*",
)
"""How the files of an evaluation are named, below its folder."""


@dataclass(frozen=True)
class Paper:
    """What is written for papers.

    Attributes:
        measures: Measures of ``table.md`` and ``table.tex``, in their order.
        figures: Format of the figures: ``svg``, ``pdf``, or ``none`` for no files.
    """

    measures: tuple[str, ...] = ("dice", "hd95_mm", "assd_mm", "nsd")
    figures: str = "none"


@dataclass(frozen=True)
class Material:
    """Optional content of a report in addition to the scores.

    Attributes:
        title: Heading of the report.
        read_view: Reads the case of this name for its pictures; returns None if that is impossible.
        training: Values per epoch of training, by name.
        details: Texts at the end of the page by title, such as configuration and environment.
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
    output_dir: Path,
    scores: Scores,
    context: Context,
    material: Material | None = None,
    *,
    paper: Paper | None = None,
) -> dict[str, Any]:
    """Write the scores of an evaluation, their summary, tables and figures, and their report.

    Args:
        output_dir: Folder of the files; made if missing.
        scores: The scores of all cases.
        context: What the summary holds in addition to the scores.
        material: What the report shows in addition to the scores.
        paper: What is written for papers.

    Returns:
        The summary, the content of ``summary.json``.

    Raises:
        DataError: If a file cannot be written.
    """
    summary = build_summary(scores, context)
    material, paper = material or Material(), paper or Paper()
    write_cases(output_dir / "cases.csv", scores.rows)
    write_confusion(output_dir / "confusion.csv", scores)
    write_json(output_dir / "summary.json", summary)
    write_tables(output_dir, summary, scores.table, paper.measures)
    if paper.figures != "none":
        draw_figures(output_dir / FIGURES_DIR, scores, material.training, paper.figures)
    page = render_report(scores, summary, material)
    with replacing(output_dir / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return summary


def write_cases(file: Path, rows: Sequence[StructureScore]) -> None:
    """Write one line per case, structure and scope, with an empty cell where there is no value.

    Raises:
        DataError: If the file cannot be written.
    """
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_cell(getattr(row, column)) for column in COLUMNS] for row in rows)


def write_confusion(file: Path, scores: Scores) -> None:
    """Write how many voxels of each reference label have which predicted label, case by case.

    Raises:
        DataError: If the file cannot be written.
    """
    keys = [structure.key for structure in scores.table.structures]
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "reference", *keys])
        for case in scores.cases:
            for key, counts in zip(keys, case.confusion.tolist(), strict=True):
                writer.writerow([case.case, key, *counts])


def render_report(scores: Scores, summary: Mapping[str, Any], material: Material) -> str:
    """Build the report: one HTML page that needs no other file and no network.

    Args:
        scores: The scores of all cases.
        summary: The content of ``summary.json``.
        material: What the report shows in addition to the scores.

    Returns:
        The page.
    """
    ranked = _rank(scores)
    shown = list(_draw_extremes(scores, ranked, material))
    typical = _read_view(material, ranked[len(ranked) // 2]) if ranked else None
    provenance = json.dumps(summary["provenance"], indent=2, ensure_ascii=False)
    return _load_template().render(
        title=material.title,
        fewest=FEWEST_FOR_INTERVAL,
        version=__version__,
        summary=summary,
        sections=_list_sections(has_groups=bool(summary["groups"]), has_cases=bool(shown)),
        table=scores.table,
        colors={s.key: f"rgb{scores.table.display_color(s)}" for s in scores.table.foreground},
        names={
            **{s.key: f"{s.key} {s.name}" for s in scores.table.foreground},
            WHOLE_HEART: WHOLE_HEART_NAME,
        },
        macro_average=MACRO_AVERAGE_NAME,
        headings=(*scores.structures, WHOLE_HEART_NAME),
        columns=SUMMARY_COLUMNS,
        figures=_build_figures(scores, material, typical),
        shown=shown,
        patients=_patients(scores),
        details={"Provenance": provenance, **material.details}.items(),
        plotly_js=Markup(plotly.offline.get_plotlyjs()),  # noqa: S704 - the library itself
    )


def _load_template() -> Template:
    # The names of cases and files may hold anything: all text is escaped except what heartseg made.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(
        files("heartseg.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    )


def _list_sections(*, has_groups: bool, has_cases: bool) -> list[tuple[str, str]]:
    """Return the sections of the page, each with its anchor and its name."""
    sections = [
        ("summary", "Summary"),
        ("groups", "Groups"),
        ("figures", "Figures"),
        ("cases", "Worst and best"),
        ("patients", "Patients"),
        ("policy", "How scores are counted"),
        ("provenance", "Configuration and environment"),
    ]
    missing = {"groups": not has_groups, "cases": not has_cases}
    return [(anchor, name) for anchor, name in sections if not missing.get(anchor)]


def _build_figures(scores: Scores, material: Material, view: OrientedCase | None) -> list[_Figure]:
    built = _draw_scores(scores)
    if material.training:
        built.append(
            _figure(
                "training",
                "Training",
                "Losses and metrics of each epoch.",
                figures.training_curves(material.training),
            )
        )
    if view is not None:
        built.append(
            _figure(
                "surfaces",
                f"Surfaces of {view.case}",
                "The case of median Dice. Drag to rotate both; click a structure to hide it. "
                "Coarsened and smoothed for display.",
                figures.surfaces(view, scores.table),
            )
        )
    return built


def _draw_scores(scores: Scores) -> list[_Figure]:
    return [
        _figure(
            "dice",
            "Dice by structure",
            "One dot per patient. Boxes extend from the first to the third quartile; the line "
            "inside is the median.",
            figures.box_plots(scores, "dice", title="Dice"),
        ),
        _figure(
            "hd95",
            "HD95 by structure",
            "95th percentile of the surface distances. A structure that only one label map holds "
            "counts with the diagonal of the image.",
            figures.box_plots(scores, "hd95_mm", title="HD95 (mm)"),
        ),
        _figure(
            "volume",
            "Dice against volume",
            "If two structures have the same surface errors, the smaller one has the lower Dice.",
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
            "How the voxels of each reference structure are labelled in the predictions, in "
            "percent, all patients together.",
            figures.confusion(scores),
        ),
    ]


def _figure(name: str, title: str, note: str, figure: go.Figure) -> _Figure:
    # The name of a case may contain "</script>", which must not end the element of the figure.
    content = str(figure.to_json()).replace("<", "\\u003c")
    return _Figure(name, title, note, Markup(content))  # noqa: S704 - JSON without any tag


def _rank(scores: Scores) -> list[str]:
    """Return the cases with a score, the lowest Dice (macro average) first."""
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
    """Return one row per case for the table of patients, with None where there is no value."""
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
