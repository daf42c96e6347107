import csv
import json
import math

import pytest

from heartseg.errors import DataError
from heartseg.evaluation.comparison import (
    check_comparable,
    compare_tables,
    read_cases,
    write_comparison,
)

NAN = float("nan")
CASES = [f"pat{number}" for number in range(8)]


def table_of(dice_by_structure, cases=CASES, hd95_mm=5.0):
    return {
        (case, structure, "full"): {
            "dice": dice[i],
            "iou": dice[i] / 2,
            "hd95_mm": hd95_mm - dice[i],
            "assd_mm": 1.0,
            "nsd": dice[i],
            "volume_reference_ml": 10.0 + i,
        }
        for structure, dice in dice_by_structure.items()
        for i, case in enumerate(cases)
    }


def rising(start, step):
    return [start + step * (i + 1) for i in range(len(CASES))]


BASE = {"LV": [0.5] * 8, "RV": [0.5, 0.6, 0.7, 0.5, 0.4, 0.5, 0.6, 0.5], "whole_heart": [0.8] * 8}
BETTER = {"LV": rising(0.5, 0.01), "RV": BASE["RV"], "whole_heart": rising(0.8, 0.001)}


def find(comparison, structure, measure):
    (row,) = [r for r in comparison.rows if (r.structure, r.measure) == (structure, measure)]
    return row


def test_a_structure_that_is_better_for_every_patient_is_marked():
    comparison = compare_tables(table_of(BASE), table_of(BETTER))

    row = find(comparison, "LV", "dice")
    # 8 of 8 rise: 2 of 2**8 sign patterns are as extreme. The RV has nothing to test.
    assert row.test.p == row.test.p_holm == pytest.approx(2 / 256)
    assert (row.test.effect_size, row.better) == (1, "B")
    assert find(comparison, "RV", "dice").better == ""
    assert math.isnan(find(comparison, "RV", "dice").test.p_holm)


def test_smaller_distances_are_better():
    comparison = compare_tables(table_of(BASE), table_of(BETTER))

    row = find(comparison, "LV", "hd95_mm")
    assert (row.test.effect_size, row.better) == (-1, "B")


def test_holm_counts_structures_but_not_the_whole_heart():
    second = {**BETTER, "RV": [value + 0.02 * (i + 1) for i, value in enumerate(BASE["RV"])]}

    comparison = compare_tables(table_of(BASE), table_of(second))

    assert find(comparison, "LV", "dice").test.p_holm == pytest.approx(2 * 2 / 256)
    assert find(comparison, "whole_heart", "dice").test.p_holm == pytest.approx(2 / 256)


def test_the_macro_average_is_over_a_patients_own_structures():
    first = table_of({"LV": [0.4] * 8, "RV": [NAN] * 8})
    second = table_of({"LV": [0.6] * 8, "RV": [0.8] * 8})

    row = find(compare_tables(first, second), "macro", "dice")

    assert (row.test.mean_a, row.test.mean_b) == (pytest.approx(0.4), pytest.approx(0.7))


def test_cases_of_one_run_only_are_named_and_not_compared():
    comparison = compare_tables(table_of(BASE), table_of(BETTER, cases=[*CASES[:7], "pat99"]))

    assert comparison.cases == tuple(CASES[:7])
    assert comparison.warnings == (
        "Only run A scored pat7: not compared.",
        "Only run B scored pat99: not compared.",
    )


def test_too_few_patients_for_a_significant_difference_are_a_warning():
    few = table_of({"LV": [0.5, 0.6]}, cases=CASES[:2])

    (warning,) = compare_tables(few, few).warnings

    # The smallest two-sided p of n patients is 2 / 2**n: 1/32 for 6, 1/16 for 5.
    assert "at least 6 for p < 0.05, found 2" in warning


def test_runs_without_a_common_case_cannot_be_compared():
    with pytest.raises(DataError, match="no case in common"):
        compare_tables(table_of(BASE), table_of(BASE, cases=[f"x{i}" for i in range(8)]))


def test_files_hold_every_row_and_no_nan(tmp_path):
    comparison = compare_tables(table_of(BASE), table_of(BETTER))

    write_comparison(tmp_path, comparison, names=("first", "second"))

    content = json.loads((tmp_path / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert (content["run_a"], content["run_b"]) == ("first", "second")
    with (tmp_path / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(content["rows"]) == 5 * 4
    assert rows[0]["measure"] == "dice"


HEADER = "case,structure,scope,dice,iou,hd95_mm,assd_mm,nsd,volume_reference_ml\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table of scores"),
        ("case,structure\npat1,LV\n", "with the columns assd_mm, case"),
        (HEADER + "p,LV,full,1,1,0,0,1,9\n" * 2, "p LV full occurs twice"),
        (HEADER + "p,LV,full,good,1,0,0,1,9\n", "p LV full: expected numbers"),
        (HEADER + "p,LV,full,1\n", "p LV full: expected numbers"),
    ],
)
def test_tables_that_are_not_scores_are_refused(tmp_path, text, message):
    file = tmp_path / "cases.csv"
    file.write_text(text)

    with pytest.raises(DataError, match=message):
        read_cases(file)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cases\.csv: cannot be read"):
        read_cases(tmp_path / "cases.csv")


def test_other_references_are_no_basis_for_a_comparison():
    other = {key: dict(row) for key, row in table_of(BASE).items()}
    other["pat3", "RV", "full"]["volume_reference_ml"] = 12.0

    check_comparable(table_of(BASE), table_of(BETTER))
    with pytest.raises(DataError, match=r"RV of pat3 \(scope full\) has 13 mL in one and 12 mL"):
        check_comparable(table_of(BASE), other)


def test_other_scopes_are_no_basis_for_a_comparison():
    both = {**table_of(BASE), ("pat0", "LV", "required"): table_of(BASE)["pat0", "LV", "full"]}

    with pytest.raises(DataError, match="same scopes, found full and full, required"):
        check_comparable(table_of(BASE), both)
