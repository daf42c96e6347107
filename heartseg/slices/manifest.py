"""The manifest of a prepared folder: the volume that each slice was cut from, and its place."""

import csv
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from heartseg.errors import DataError
from heartseg.files import natural_key, replacing

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class SliceRecord:
    """The origin of a prepared slice: one row of the manifest.

    Attributes:
        file: Name of the PNG file, the same for image and mask.
        case: Case name.
        slice: Index in the array of the source file, along the axis of the plane.
        plane: Anatomical plane.
        source: File name of the source image.
        height: Height of the slice in the scan.
        width: Width of the slice in the scan.
        spacing_row_mm: Distance between its rows.
        spacing_col_mm: Distance between its columns.
        foreground: Number of pixels of the slice in the scan that belong to a structure.
    """

    file: str
    case: str
    slice: int
    plane: str
    source: str
    height: int
    width: int
    spacing_row_mm: float
    spacing_col_mm: float
    foreground: int


def slice_file_name(case: str, index: int) -> str:
    """Return the file name of a slice: ``pat4_079.png``."""
    return f"{case}_{index:03d}.png"


def write_manifest(file: Path, records: Iterable[SliceRecord]) -> None:
    """Write the manifest, with cases in natural order and their slices by index."""
    rows = sorted(records, key=lambda record: (natural_key(record.case), record.slice))
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(field.name for field in fields(SliceRecord))
        writer.writerows(astuple(row) for row in rows)


def read_manifest(file: Path) -> list[SliceRecord]:
    """Read a manifest.

    Raises:
        DataError: If it is missing, lacks a column, or holds an invalid value.
    """
    types: dict[str, Any] = {field.name: field.type for field in fields(SliceRecord)}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            missing = set(types) - set(rows.fieldnames or ())
            if missing:
                raise DataError(
                    f"{file}: expected the columns {', '.join(types)}; missing: "
                    f"{', '.join(sorted(missing))}"
                )
            records = [
                SliceRecord(**{name: kind(row[name]) for name, kind in types.items()})
                for row in rows
            ]
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; run `heartseg prepare` first") from None
    except (ValueError, TypeError, OSError, csv.Error) as error:
        raise DataError(
            f"{file}: cannot be read as a manifest ({' '.join(str(error).split())})"
        ) from error
    _check_records(records, file)
    return records


def _check_records(records: Iterable[SliceRecord], file: Path) -> None:
    """Refuse names that lead outside the folders, and impossible numbers."""
    seen: set[str] = set()
    for record in records:
        name = record.file
        if not name.isprintable() or name in ("", ".", "..") or {"/", "\\"} & set(name):
            raise DataError(f"{file}: expected the name of a slice file, found {name!r}")
        if name in seen:
            raise DataError(f"{file}: expected each slice once, found {name} twice")
        spacings = (record.spacing_row_mm, record.spacing_col_mm)
        counts = (record.slice, record.foreground, record.height - 1, record.width - 1)
        if min(counts) < 0 or not all(0 < spacing < math.inf for spacing in spacings):
            raise DataError(
                f"{file}: the index, size, spacing or foreground of {name} is out of range"
            )
        seen.add(name)
