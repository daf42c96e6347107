"""Tables for papers: a summary of scores as ``summary.csv``, ``table.md`` and ``table.tex``."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartseg.evaluation.scores import (
    MACRO,
    MACRO_AVERAGE_NAME,
    MEASURE_STYLES,
    WHOLE_HEART,
    WHOLE_HEART_NAME,
)
from heartseg.evaluation.statistics import FEWEST_FOR_INTERVAL
from heartseg.files import replacing
from heartseg.labels import LabelTable
from heartseg.plurals import counted

TABLE_FILES = ("summary.csv", "table.md", "table.tex")
STATISTICS = ("n", "mean", "sd", "median", "q1", "q3", "ci95_low", "ci95_high")
CSV_COLUMNS = ("scope", "structure", "measure", *STATISTICS)
HEADINGS = ("n", "mean ± SD", "median [IQR]", "95 % interval")
NO_VALUE = "-"
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "-": "$-$",
    **{character: rf"\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class _Row:
    """One measure of one structure in one scope.

    Attributes:
        structure: As files name it.
        name: As people read it.
        measure: Column of ``cases.csv``.
        numbers: The entry of ``summary.json``.
    """

    structure: str
    name: str
    measure: str
    numbers: Mapping[str, float | None]

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells under ``HEADINGS``."""
        n, digits = self.numbers["n"], MEASURE_STYLES[self.measure].digits
        values = {name: _format(self.numbers[name], digits) for name in STATISTICS[1:]}
        if not n:
            return ("0", NO_VALUE, NO_VALUE, NO_VALUE)
        interval = f"{values['ci95_low']} to {values['ci95_high']}"
        return (
            str(n),
            f"{values['mean']} ± {values['sd']}",
            f"{values['median']} [{values['q1']}, {values['q3']}]",
            NO_VALUE if n < 2 else interval + "*" * (n < FEWEST_FOR_INTERVAL),
        )


def write_tables(
    output_dir: Path, summary: Mapping[str, Any], table: LabelTable, measures: Sequence[str]
) -> None:
    """Write ``summary.csv`` with all measures, and the chosen ones as Markdown and LaTeX.

    Args:
        output_dir: Folder of the files.
        summary: The content of ``summary.json``.
        table: The label map, for the names of the structures.
        measures: Measures of ``table.md`` and ``table.tex``, in their order.

    Raises:
        DataError: If a file cannot be written.
    """
    with (
        replacing(output_dir / "summary.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for scope in summary["scopes"]:
            for row in _list_rows(summary, scope, table, tuple(MEASURE_STYLES)):
                numbers = (row.numbers[name] for name in STATISTICS)
                writer.writerow(
                    [scope, row.structure, row.measure, *("" if v is None else v for v in numbers)]
                )
    for name, text in (
        ("table.md", render_markdown(summary, table, measures)),
        ("table.tex", render_latex(summary, table, measures)),
    ):
        with replacing(output_dir / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def render_markdown(summary: Mapping[str, Any], table: LabelTable, measures: Sequence[str]) -> str:
    """Return one table per scope in Markdown; the arguments are those of ``write_tables``."""
    parts = [f"> **Warning:** {_one_line(warning)}\n" for warning in summary["warnings"]]
    for scope in summary["scopes"]:
        lines = [f"**{_caption(summary, scope)}**", ""]
        lines.append("| " + " | ".join(("measure", "structure", *HEADINGS)) + " |")
        lines.append("|---|---|" + "---:|" * len(HEADINGS))
        for measure in measures:
            for row in _list_rows(summary, scope, table, (measure,)):
                cells = (MEASURE_STYLES[measure].title, row.name, *row.cells)
                escaped = (cell.replace("|", r"\|").replace("*", r"\*") for cell in cells)
                lines.append("| " + " | ".join(escaped) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, f"{_note(summary)}\n".replace("*", r"\*")])


def render_latex(summary: Mapping[str, Any], table: LabelTable, measures: Sequence[str]) -> str:
    """Return one floating table per scope for LaTeX; the arguments are those of ``write_tables``.

    The document needs the package booktabs and nothing else.
    """
    lines = [r"% Needs \usepackage{booktabs}."]
    lines += [f"% WARNING: {_one_line(warning)}" for warning in summary["warnings"]]
    for scope in summary["scopes"]:
        lines += [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_tex(f'{_caption(summary, scope)} {_note(summary)}')}}}",
            rf"  \label{{tab:scores-{scope}}}",
            r"  \begin{tabular}{lrrrr}",
            r"    \toprule",
            "    " + " & ".join(map(_tex, ("structure", *HEADINGS))) + r" \\",
        ]
        for measure in measures:
            title = _tex(MEASURE_STYLES[measure].title)
            lines += [r"    \midrule", rf"    \multicolumn{{5}}{{l}}{{\emph{{{title}}}}} \\"]
            lines += [
                "    " + " & ".join(map(_tex, (row.name, *row.cells))) + r" \\"
                for row in _list_rows(summary, scope, table, (measure,))
            ]
        lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _list_rows(
    summary: Mapping[str, Any], scope: str, table: LabelTable, measures: Sequence[str]
) -> Iterator[_Row]:
    """Yield the rows of a scope: structures, whole heart, macro average, for each measure."""
    scores = summary["scopes"][scope]
    names = {structure.key: f"{structure.name} ({structure.key})" for structure in table.foreground}
    names[WHOLE_HEART] = WHOLE_HEART_NAME
    for measure in measures:
        for structure, entry in scores["structures"].items():
            name = names.get(structure, structure)
            yield _Row(structure, name, measure, entry[measure])
        # Volumes have no macro average.
        if measure in scores["macro"]:
            yield _Row(MACRO, MACRO_AVERAGE_NAME, measure, scores["macro"][measure])


def _caption(summary: Mapping[str, Any], scope: str) -> str:
    return f"Scores of {counted(summary['num_cases'], 'patient')}, scope {scope}."


def _note(summary: Mapping[str, Any]) -> str:
    bootstrap = summary["bootstrap"]
    return (
        f"SD: standard deviation; IQR: first and third quartile; 95 % interval of the mean by "
        f"bootstrap over patients ({bootstrap['resamples']} resamples); NSD at "
        f"{summary['tolerance_mm']:g} mm. Structures that both label maps lack are not counted in "
        f"n. * An interval from fewer than {FEWEST_FOR_INTERVAL} patients is too narrow."
    )


def _format(value: float | None, digits: int) -> str:
    return NO_VALUE if value is None else f"{value:.{digits}f}"


def _tex(text: str) -> str:
    return re.sub(r"-(?=\d)|[\\~^±&%$#_{}]", lambda found: _TEX[found[0]], text)


def _one_line(text: str) -> str:
    return " ".join(text.split())
