import pytest

from heartseg.cohort.clinical import read_groups
from heartseg.errors import DataError


def test_cases_are_grouped_by_category_and_by_each_diagnosis(tmp_path):
    file = tmp_path / "clinical.csv"
    file.write_text("Pat,Age,Category,VSD,Fontan\n0,10,severe,X,X\n1,3,mild,X,\n2,5,,, \n")

    groups = read_groups(file)

    assert groups["category"] == {"mild": ["pat1"], "moderate": [], "severe": ["pat0"]}
    assert groups["diagnosis"] == {"VSD": ["pat0", "pat1"], "Fontan": ["pat0"]}


def test_the_real_table_can_be_read(hvsmr2):
    groups = read_groups(hvsmr2 / "hvsmr_clinical.csv")

    assert sum(len(cases) for cases in groups["category"].values()) == 56
    assert "pat58" in groups["diagnosis"]["SingleVentricle"]


@pytest.mark.parametrize("text", ["", "Pat,Age\n1,2\n", "Category\nmild\n"])
def test_a_table_without_the_columns_is_refused(tmp_path, text):
    file = tmp_path / "clinical.csv"
    file.write_text(text)

    with pytest.raises(DataError, match="expected a table with the columns Pat and Category"):
        read_groups(file)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"clinical\.csv: cannot be read as a table"):
        read_groups(tmp_path / "clinical.csv")
