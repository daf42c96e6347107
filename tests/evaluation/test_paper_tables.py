"""Tables for papers, compared with the standard library's statistics."""

import csv
import re
import shutil
import statistics
import subprocess

import numpy as np
import pytest

from heartseg.config.use_sections import EvaluateConfig, MeasureName
from heartseg.errors import DataError
from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.paper_tables import render_latex, render_markdown, write_tables
from heartseg.evaluation.reading import read_evaluation
from heartseg.evaluation.report import EVALUATION_FILES, Material, Paper, write_evaluation
from heartseg.evaluation.scores import MEASURE_STYLES, MEASURES, collect_scores
from heartseg.evaluation.scoring import score_case
from heartseg.evaluation.summary import VOLUMES, Context, build_summary
from heartseg.labels import HVSMR, LabelTable, Structure

AWKWARD = LabelTable(
    (
        Structure(0, "bg", "background", (0, 0, 0)),
        Structure(1, "A_1", r"a|b & 50 % #1 \{~^}", (255, 0, 0)),
        Structure(2, "B", "second", (0, 255, 0)),
    )
)


def pairs(count=5):
    """Blocks that are shifted further from case to case; the second lacks label 2."""
    for number in range(count):
        reference = np.zeros((14, 12, 10), np.uint8)
        reference[2:8, 2:6, 2:8], reference[2:8, 7:10, 2:8] = 1, 2
        if number == 1:
            reference[reference == 2] = 0
        yield LabelPair(
            f"pat{number}",
            np.roll(reference, number, axis=2),
            reference,
            (1.0, 1.2, 0.9),
            np.roll(reference, 4, axis=2),
        )


@pytest.fixture(scope="module")
def scores():
    return collect_scores([score_case(pair, AWKWARD) for pair in pairs()], AWKWARD, tolerance_mm=2)


@pytest.fixture(scope="module")
def summary(scores):
    return build_summary(scores, Context(warnings=("LEAKAGE: pat1\nwas seen",), num_resamples=200))


@pytest.fixture(scope="module")
def written(tmp_path_factory, scores):
    folder = tmp_path_factory.mktemp("evaluation")
    training = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "dice": [0.1, 0.5]}
    write_evaluation(
        folder,
        scores,
        Context(num_resamples=200),
        Material(training=training),
        paper=Paper(("dice",), "svg"),
    )
    return folder


def independent(values):
    """Compute the statistics of a row without NumPy."""
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "n": len(values),
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values),
        "median": median,
        "q1": q1,
        "q3": q3,
    }


@pytest.mark.parametrize("scope", ["full", "required"])
@pytest.mark.parametrize("structure", ["A_1", "B", "whole_heart", "macro"])
def test_summary_csv_holds_what_the_standard_library_computes(written, scope, structure):
    with (written / "cases.csv").open(newline="") as stream:
        cases = list(csv.DictReader(stream))
    with (written / "summary.csv").open(newline="") as stream:
        rows = {(r["scope"], r["structure"], r["measure"]): r for r in csv.DictReader(stream)}
    for measure in ("dice", "hd95_mm", "assd_mm", "volume_reference_ml"):
        if structure == "macro" and measure == "volume_reference_ml":
            assert (scope, structure, measure) not in rows
            continue
        by_case = {}
        for row in cases:
            fits = row["structure"] == structure or (
                structure == "macro" and row["structure"] != "whole_heart"
            )
            if row["scope"] == scope and fits and row["flag"] != "absent":
                by_case.setdefault(row["case"], []).append(float(row[measure]))
        expected = independent([statistics.fmean(values) for values in by_case.values()])
        found = {name: float(rows[scope, structure, measure][name]) for name in expected}
        # cases.csv has six decimals.
        assert found == pytest.approx(expected, abs=2e-6)
        low, high = (
            float(rows[scope, structure, measure][f"ci95_{end}"]) for end in ("low", "high")
        )
        assert low - 1e-9 <= expected["mean"] <= high + 1e-9


def test_a_cell_reads_mean_sd_median_quartiles_and_interval(summary):
    text = render_markdown(summary, AWKWARD, ("dice", "hd95_mm"))
    entry = summary["scopes"]["full"]["structures"]["B"]["dice"]
    assert entry["n"] == 4  # absent from pat1
    assert (
        f"| Dice | second (B) | 4 | {entry['mean']:.3f} ± {entry['sd']:.3f} | "
        f"{entry['median']:.3f} [{entry['q1']:.3f}, {entry['q3']:.3f}] | "
        rf"{entry['ci95_low']:.3f} to {entry['ci95_high']:.3f}\* |"
    ) in text
    assert r"| HD95 (mm) | a\|b & 50 % #1 \{~^} (A_1) | 5 |" in text
    assert text.startswith("> **Warning:** LEAKAGE: pat1 was seen\n")
    assert text.count("macro average") == 2 * 2  # measures, scopes
    assert "NSD |" not in text


def test_one_patient_has_no_spread_and_none_has_nothing():
    for count, cells in ((1, "1 | 1.000 ± - | 1.000 [1.000, 1.000] | - |"), (0, "0 | - | - | - |")):
        scored = [score_case(pair, AWKWARD) for pair in pairs(count)]
        scores = collect_scores(scored, AWKWARD, tolerance_mm=2)
        text = render_markdown(build_summary(scores, Context()), AWKWARD, ("dice",))
        assert f"| Dice | second (B) | {cells}" in text


def check_latex(text):
    """Check that environments and braces match and every row has five cells."""
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    code = re.sub(r"(?m)^%.*$", "", re.sub(r"\\[{}&%$#_]", "", text))
    assert code.count("{") == code.count("}")
    assert "%" not in code
    assert code.isascii()
    rows = [line for line in code.splitlines() if line.endswith(r"\\")]
    assert rows
    assert all(line.count("&") == 4 or r"\multicolumn{5}" in line for line in rows)


def test_table_tex_compiles(summary, tmp_path):
    text = render_latex(summary, AWKWARD, ("dice", "volume_difference_ml"))
    check_latex(text)
    assert text.index("WARNING: LEAKAGE: pat1 was seen") < text.index(r"\begin{table}")
    if shutil.which("pdflatex") is None:
        return
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    document = "\n".join([head, text, r"\end{document}"])
    (tmp_path / "a.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout[-2000:]


def test_the_check_of_latex_can_fail(summary):
    text = render_latex(summary, AWKWARD, ("dice",))
    for old, new in ((r"\end{tabular}", ""), (r"\_", "_}"), (" & ", " "), (r"\%", "%"), ("$", "±")):
        with pytest.raises(AssertionError):
            check_latex(text.replace(old, new, 1))


def test_all_files_of_an_evaluation_are_known(written):
    names = {file.relative_to(written).as_posix() for file in written.rglob("*.*")}
    figures = ("dice", "hd95", "volume", "bland_altman", "confusion", "training_losses")
    assert names == {
        *(name for name in EVALUATION_FILES if "*" not in name),
        *(f"figures/{name}.svg" for name in (*figures, "training_metrics")),
    }


def test_figures_are_drawings_with_text_in_the_colours_of_the_structures(written, scores):
    text = (written / "figures/volume.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    assert ">reference volume (mL)</text>" in text
    for structure in AWKWARD.foreground:
        assert "#{:02x}{:02x}{:02x}".format(*AWKWARD.display_color(structure)) in text
    # Of six layers, a shift by k leaves 6 - k: 20 of 30 for A, and 15 of 24 for B.
    confusion = (written / "figures/confusion.svg").read_text(encoding="utf-8")
    assert ">66.7</text>" in confusion
    assert ">62.5</text>" in confusion


def test_figures_can_be_pdf(tmp_path, scores):
    write_evaluation(tmp_path, scores, Context(num_resamples=10), paper=Paper(figures="pdf"))
    files = sorted(tmp_path.glob("figures/*"))
    assert {file.suffix for file in files} == {".pdf"}
    assert all(file.read_bytes().startswith(b"%PDF") for file in files)


def test_scores_are_read_back_as_they_were_written(written, scores):
    found = read_evaluation(written, AWKWARD).scores
    assert [case.case for case in found.cases] == [case.case for case in scores.cases]
    for case, expected in zip(found.cases, scores.cases, strict=True):
        np.testing.assert_array_equal(case.confusion, expected.confusion)
        assert (case.has_prediction, case.has_endpoints) == (True, True)
        for row, other in zip(case.rows, expected.rows, strict=True):
            assert (row.structure, row.scope, row.flag) == (
                other.structure,
                other.scope,
                other.flag,
            )
            assert row.dice == pytest.approx(other.dice, abs=1e-6, nan_ok=True)
            assert row.volume_difference_ml == pytest.approx(other.volume_difference_ml, abs=1e-6)


def test_scores_of_other_structures_are_an_error(written):
    with pytest.raises(DataError, match=r"expected the scores of an evaluation of LV, RV"):
        read_evaluation(written, HVSMR)


def test_the_configuration_offers_exactly_the_measures_there_are():
    offered = MeasureName.__args__
    assert set(offered) == {*MEASURES, *VOLUMES} == set(MEASURE_STYLES)
    assert EvaluateConfig().table_measures == Paper().measures


def test_tables_replace_each_other(tmp_path, summary):
    for measures in (("dice",), ("nsd",)):
        write_tables(tmp_path, summary, AWKWARD, measures)
    assert "NSD |" in (tmp_path / "table.md").read_text(encoding="utf-8")
