"""The clinical table of HVSMR-2.0: the category and the diagnoses of each case."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heartseg.errors import DataError

PATIENT, CATEGORY = "Pat", "Category"
NOT_DIAGNOSES = (PATIENT, "Age", CATEGORY)
CATEGORY_ORDER = ("mild", "moderate", "severe")


@dataclass(frozen=True)
class ClinicalTable:
    """The categories and diagnoses of a cohort.

    Attributes:
        categories: Category by case name; a case without a category is left out.
        diagnoses: Names of the cases with each diagnosis. A case has any number of diagnoses.
    """

    categories: Mapping[str, str]
    diagnoses: Mapping[str, tuple[str, ...]]

    def groups(self) -> dict[str, dict[str, list[str]]]:
        """Return case names by group, under ``category`` and ``diagnosis``.

        The known categories come first, from mild to severe, even if they have no case.
        """
        by_category: dict[str, list[str]] = {name: [] for name in CATEGORY_ORDER}
        for case, category in self.categories.items():
            by_category.setdefault(category, []).append(case)
        by_diagnosis = {name: list(cases) for name, cases in self.diagnoses.items()}
        return {"category": by_category, "diagnosis": by_diagnosis}


def read_clinical_table(file: Path, *, case_prefix: str = "pat") -> ClinicalTable:
    """Read the clinical table.

    Args:
        file: CSV with the columns ``Pat`` (number or name of a patient) and ``Category``, a column
            per diagnosis, with anything in the cells of the patients who have it.
        case_prefix: What precedes the number in case names; a name may stand in full.

    Returns:
        The table; its cases keep the order of the rows.

    Raises:
        DataError: If the file cannot be read, lacks a column or rows, or has two rows of one
            patient.
    """
    columns, rows = _read_rows(file)
    if not {PATIENT, CATEGORY} <= set(columns):
        found = ", ".join(map(repr, columns)) or "none"
        raise DataError(
            f"{file}: expected a table with the columns {PATIENT} and {CATEGORY}, found {found}"
        )
    if not rows:
        raise DataError(f"{file}: expected one row per patient, found no rows")
    patients = Counter(row[PATIENT] for row in rows)
    twice = [patient for patient, count in patients.items() if count > 1]
    if twice:
        raise DataError(
            f"{file}: expected one row per patient, found several of the patient {twice[0]!r}"
        )
    cases = {_name_case(row[PATIENT], case_prefix): row for row in rows}
    names = [name for name in columns if name and name not in NOT_DIAGNOSES]
    return ClinicalTable(
        {case: row[CATEGORY] for case, row in cases.items() if row[CATEGORY]},
        {name: tuple(case for case, row in cases.items() if row[name].strip()) for name in names},
    )


def _name_case(patient: str, case_prefix: str) -> str:
    """Return the case of a patient, whether the table has its number or its name."""
    patient = patient.strip()
    return patient if patient.startswith(case_prefix) else f"{case_prefix}{patient}"


def _read_rows(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns, and the rows with an empty text in each cell that is not there."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            return list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from error
