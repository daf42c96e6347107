"""The clinical table of HVSMR-2.0: which cases share a category or a diagnosis."""

import csv
from pathlib import Path

from heartseg.errors import DataError

KEY, CATEGORY = "Pat", "Category"
NOT_DIAGNOSES = (KEY, "Age", CATEGORY)
CATEGORY_ORDER = ("mild", "moderate", "severe")


def read_groups(file: Path, *, case_prefix: str = "pat") -> dict[str, dict[str, list[str]]]:
    """Read groups of cases by category and by diagnosis.

    Args:
        file: CSV with the columns ``Pat`` (number), ``Category``, and one a diagnosis, whose
            cells hold anything where the patient has it.
        case_prefix: What stands before the number in case names.

    Returns:
        Case names by group under ``category`` and ``diagnosis``. A case has one category and any
        number of diagnoses.

    Raises:
        DataError: If the table cannot be read or lacks a column.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from error
    if not rows or not {KEY, CATEGORY} <= rows[0].keys():
        raise DataError(f"{file}: expected a table with the columns {KEY} and {CATEGORY}")
    categories: dict[str, list[str]] = {name: [] for name in CATEGORY_ORDER}
    diagnoses: dict[str, list[str]] = {
        name: [] for name in rows[0] if name and name not in NOT_DIAGNOSES
    }
    for row in rows:
        case = f"{case_prefix}{row[KEY]}"
        if row[CATEGORY]:
            categories.setdefault(row[CATEGORY], []).append(case)
        for name, cases in diagnoses.items():
            if (row[name] or "").strip():
                cases.append(case)
    return {"category": categories, "diagnosis": diagnoses}
