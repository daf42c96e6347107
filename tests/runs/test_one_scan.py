"""What is declared absent of one scan, for commands that work on one."""

import logging

import pytest

from heartseg.config.schema import InferConfig
from heartseg.labels import HVSMR
from heartseg.runs.one_scan import find_hints


@pytest.mark.parametrize(
    ("case", "expected", "notices"), [("pat1", ("RA",), 0), ("pat2", (), 0), ("pat3", ("RV",), 1)]
)
def test_a_row_of_the_table_of_hints_wins_and_a_missing_one_is_noticed(
    tmp_path, caplog, case, expected, notices
):
    file = tmp_path / "hints.csv"
    file.write_text("case,diagnosis\npat1,common atrium\npat2,\n")
    settings = InferConfig(absent=("RV",), hints=file)

    with caplog.at_level(logging.WARNING):
        assert find_hints(settings, case, HVSMR, command="refine") == expected

    assert [record.getMessage() for record in caplog.records] == notices * [
        f"{file}: has no row of the case pat3; its hints are not used"
    ]
