import math
from dataclasses import replace
from pathlib import Path

import pytest

from heartseg.cli import console, tables
from heartseg.evaluation.comparison import Comparison, ComparisonRow
from heartseg.evaluation.statistics import PairedTest


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    console.configure(quiet=False, log_file=None)
    monkeypatch.setattr(console.out, "width", 120)


def summarize(mean, low=None, high=None):
    return {"n": 3, "mean": mean, "median": mean, "ci95_low": low, "ci95_high": high}


def entry(mean):
    measures = {"dice": summarize(mean, 0.5, 0.9), "hd95_mm": summarize(4.0)}
    return {"n": 3, "absent": 1, **measures, "assd_mm": summarize(None)}


def test_people_read_whole_heart_and_macro_average_and_a_dash_without_a_value(capsys):
    scope = {"structures": {"LV": entry(0.75), "whole_heart": entry(0.8)}, "macro": entry(0.7)}

    tables.show_scores({"num_cases": 1, "scopes": {"full": scope}}, Path("results"))

    printed = capsys.readouterr().out
    assert "Means over 1 case, scope full" in printed
    rows = [line.split("│") for line in printed.splitlines() if "│" in line]
    cells = {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows}
    assert cells["LV"] == ["3", "1", "0.750", "0.50 to 0.90*", "4.0", "-"]
    assert cells["macro average"] == ["3", "", "0.700", "0.50 to 0.90*", "4.0", "-"]
    assert "whole heart" in cells
    assert "whole_heart" not in printed


def test_a_comparison_shows_dice_only_and_names_the_better_run(capsys):
    test = PairedTest(8, 0.7, 0.8, 0.1, 0.05, 0.15, 1.0, 0.0078, 0.0156)
    one_patient = replace(test, n=1, ci95_low=math.nan, ci95_high=math.nan)
    rows = [
        ComparisonRow(structure, "full", measure, "B", numbers)
        for structure, numbers in (("LV", test), ("whole_heart", one_patient), ("macro", test))
        for measure in ("dice", "hd95_mm")
    ]

    tables.show_comparison(Comparison(tuple(rows), ("pat1", "pat2"), ()), Path("results"))

    printed = capsys.readouterr().out
    assert "Dice over 2 cases that both runs scored, scope full" in printed
    for name in ("LV", "whole heart", "macro average"):
        assert printed.count(f"│ {name} ") == 1
    assert printed.count("0.050 to 0.150") == 2
    assert " to nan" not in printed
    assert printed.splitlines()[-1] == "tables in results"
