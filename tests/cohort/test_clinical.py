import pytest

from heartseg.cohort.clinical import read_clinical_table
from heartseg.errors import DataError


def write(tmp_path, text):
    file = tmp_path / "clinical.csv"
    # Spreadsheets add a byte order mark.
    file.write_text(text, encoding="utf-8-sig")
    return file


def test_each_case_has_one_category_and_any_number_of_diagnoses(tmp_path):
    file = write(tmp_path, "Pat,Age,Category,VSD,Fontan\n0,10,severe,X,X\n1,3,mild,X,\n2,5,,, \n")

    table = read_clinical_table(file)

    assert table.categories == {"pat0": "severe", "pat1": "mild"}
    assert table.diagnoses == {"VSD": ("pat0", "pat1"), "Fontan": ("pat0",)}


def test_groups_begin_with_the_known_categories_in_order(tmp_path):
    file = write(tmp_path, "Pat,Category,VSD\n7,rare,X\n0,severe,\n1,mild,X\n2,mild,\n")

    groups = read_clinical_table(file).groups()

    assert groups["category"] == {
        "mild": ["pat1", "pat2"],
        "moderate": [],
        "severe": ["pat0"],
        "rare": ["pat7"],
    }
    assert list(groups["category"]) == ["mild", "moderate", "severe", "rare"]
    assert groups["diagnosis"] == {"VSD": ["pat7", "pat1"]}


def test_case_names_may_have_another_prefix(tmp_path):
    file = write(tmp_path, "Pat,Category\n3,mild\n")

    assert read_clinical_table(file, case_prefix="case_").categories == {"case_3": "mild"}


def test_a_short_row_has_no_category_and_no_diagnosis(tmp_path):
    table = read_clinical_table(write(tmp_path, "Pat,Category,VSD\n1\n"))

    assert (table.categories, table.diagnoses) == ({}, {"VSD": ()})


def test_the_real_table_can_be_read(hvsmr2):
    table = read_clinical_table(hvsmr2 / "hvsmr_clinical.csv")

    assert set(table.categories.values()) == {"mild", "moderate", "severe"}
    assert table.categories["pat4"] == table.categories["pat58"] == "severe"
    assert sum(len(cases) for cases in table.groups()["category"].values()) == 56
    assert "pat58" in table.diagnoses["SingleVentricle"]


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "none"), ("Pat,Age\n1,2\n", "'Pat', 'Age'"), ("Category\nmild\n", "'Category'")],
)
def test_a_table_without_the_columns_is_refused(tmp_path, text, found):
    problem = rf"clinical\.csv: expected a table with the columns Pat and Category, found {found}$"
    with pytest.raises(DataError, match=problem):
        read_clinical_table(write(tmp_path, text))


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected one row per patient, found no rows"):
        read_clinical_table(write(tmp_path, "Pat,Category\n"))


def test_a_patient_with_two_rows_is_refused(tmp_path):
    file = write(tmp_path, "Pat,Category\n0,mild\n1,mild\n1,severe\n")
    with pytest.raises(DataError, match=r"expected one row per patient, found several .* '1'"):
        read_clinical_table(file)


def test_a_file_that_is_missing_or_not_a_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"clinical\.csv: cannot be read as a table"):
        read_clinical_table(tmp_path / "clinical.csv")
    (tmp_path / "clinical.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"clinical\.csv: cannot be read as a table"):
        read_clinical_table(tmp_path / "clinical.csv")
