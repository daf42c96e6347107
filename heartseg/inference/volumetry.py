"""The numbers of each structure of a label map, and their table, ``volumes.csv``."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import natural_key, replacing
from heartseg.labels import LabelTable
from heartseg.measurements.structures import (
    StructureMeasurement,
    compute_ratios,
    measure_structures,
)

if TYPE_CHECKING:
    from heartseg.measurements.shapes import StructureShape

VOLUMES = "volumes.csv"
OLD_STABILITY = "quality"
"""What the column ``stability`` was called in earlier versions."""


@dataclass(frozen=True)
class VolumeRow:
    """The numbers of one structure in one case; a row of ``volumes.csv``.

    Attributes:
        case: Name of the case.
        structure: Key of the structure.
        volume_ml: Its volume.
        voxels: Its number of voxels.
        flags: ``absent`` without a voxel; ``truncated`` where it reaches the border of the scan,
            so that part of it may lie outside; ``doubtful`` where the model is likely to be wrong;
            ``learned`` where the model has seen the case in training; joined by semicolons.
        stability: Stability of the structure between views, 0 to 1; None where it is absent or the
            model views a scan once.
        volume_ml_per_m2: Its volume per body surface area, if that is known.
        mean_intensity: Mean of the scan over its voxels; None where it is absent.
        ratio_to_left: Of a right ventricle or atrium: its volume over that of the left one; None
            unless both are there.
        surface_area_mm2: Area of its smooth surface; None where it is absent or not measured.
        largest_diameter_mm: Largest diameter of a vessel along its centreline; None where it was
            not measured.
        median_diameter_mm: The median one.
        smallest_diameter_mm: The smallest one.
        confidence: Mean probability of the structure within itself, 0 to 1; None where it is
            absent or not known.
    """

    case: str
    structure: str
    volume_ml: float
    voxels: int
    flags: str
    stability: float | None = None
    volume_ml_per_m2: float | None = None
    mean_intensity: float | None = None
    ratio_to_left: float | None = None
    surface_area_mm2: float | None = None
    largest_diameter_mm: float | None = None
    median_diameter_mm: float | None = None
    smallest_diameter_mm: float | None = None
    confidence: float | None = None


OPTIONAL_COLUMNS = tuple(field.name for field in fields(VolumeRow))[5:]
"""What may be empty; earlier versions had none of these, or the first one."""


@dataclass(frozen=True)
class Doubt:
    """What is known of how far a segmentation can be trusted.

    Attributes:
        stability: ``(all structures,)`` stability between views; NaN where there is none; None if
            the model views a scan once.
        confidence: ``(all structures,)``; see ``measure_confidence``; None where it is not known.
        doubtful: ``(all structures,)``, True where a structure is flagged; None: nowhere.
        learned: Whether the model has seen the case in training.
    """

    stability: NDArray[np.float64] | None = None
    confidence: NDArray[np.float64] | None = None
    doubtful: NDArray[np.bool_] | None = None
    learned: bool = False


def build_rows(
    case: str,
    measurements: Sequence[StructureMeasurement],
    table: LabelTable,
    *,
    shapes: Mapping[str, "StructureShape"] | None = None,
    doubt: Doubt | None = None,
) -> list[VolumeRow]:
    """Put together the rows of a case.

    Args:
        case: Name of the case.
        measurements: What was counted of its structures.
        table: All structures.
        shapes: What was measured on their surfaces, by their keys.
        doubt: How far they can be trusted; None: nothing speaks against them.

    Returns:
        One row per measurement.
    """
    doubt, shapes = doubt or Doubt(), shapes or {}
    places = {structure.key: place for place, structure in enumerate(table.foreground)}
    ratios = {entry.structure: entry.ratio for entry in compute_ratios(measurements)}
    rows = []
    for entry in measurements:
        place = places[entry.structure]
        shape = shapes.get(entry.structure)
        diameters = None if shape is None else shape.diameters
        known = doubt if entry.voxels else Doubt()
        rows.append(
            VolumeRow(
                case,
                entry.structure,
                round(entry.volume_ml, 4),
                entry.voxels,
                ";".join(_find_flags(entry, place, doubt)),
                _pick(known.stability, place),
                _rounded(entry.volume_ml_per_m2, 4),
                None if entry.mean_intensity is None else float(f"{entry.mean_intensity:.6g}"),
                _rounded(ratios.get(entry.structure), 4),
                _rounded(None if shape is None else shape.surface_area_mm2, 1),
                _rounded(None if diameters is None else diameters.largest.diameter_mm, 2),
                _rounded(None if diameters is None else diameters.median.diameter_mm, 2),
                _rounded(None if diameters is None else diameters.smallest.diameter_mm, 2),
                _pick(known.confidence, place),
            )
        )
    return rows


def _find_flags(entry: StructureMeasurement, place: int, doubt: Doubt) -> list[str]:
    if not entry.voxels:
        flags = ["absent"]
    else:
        flags = ["truncated"] if entry.truncated else []
        flags += ["doubtful"] if doubt.doubtful is not None and doubt.doubtful[place] else []
    return flags + (["learned"] if doubt.learned else [])


def _pick(values: NDArray[np.float64] | None, place: int) -> float | None:
    if values is None or math.isnan(values[place]):
        return None
    return round(float(values[place]), 3)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def measure_volumes(
    case: str, labels: NDArray[np.uint8], affine: NDArray[np.float64], table: LabelTable
) -> list[VolumeRow]:
    """Measure each structure of a label map, background left out.

    Args:
        case: Name of the case.
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.

    Returns:
        One row per structure, in the order of their values.
    """
    return build_rows(case, measure_structures(labels, affine, table.foreground), table)


def read_volumes(file: Path) -> list[VolumeRow]:
    """Read a table of volumes, of this or an earlier version; a missing file gives no rows.

    Raises:
        DataError: If the file is something else.
    """
    names = [field.name for field in fields(VolumeRow)]
    required = len(names) - len(OPTIONAL_COLUMNS)
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            header = [
                OPTIONAL_COLUMNS[0] if name == OLD_STABILITY else name
                for name in rows.fieldnames or ()
            ]
            if header != names[: len(header)] or len(header) < required:
                raise DataError(
                    f"{file}: expected the columns {', '.join(names)}; found "
                    f"{', '.join(rows.fieldnames or ()) or 'an empty file'}"
                )
            rows.fieldnames = header
            return [_read_row(row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: not a table of volumes ({error})") from error


def _read_row(row: Mapping[str, str | None]) -> VolumeRow:
    case, structure, volume_ml, voxels, flags, *_ = row.values()
    if case is None or structure is None or volume_ml is None or voxels is None or flags is None:
        raise ValueError("a row is cut short")
    optional = {name: row.get(name) for name in OPTIONAL_COLUMNS}
    return VolumeRow(
        case,
        structure,
        float(volume_ml),
        int(voxels),
        flags,
        **{name: float(cell) if cell else None for name, cell in optional.items()},
    )


def write_volumes(file: Path, rows: Iterable[VolumeRow]) -> None:
    """Write a table of volumes; cases in natural order, structures as they come."""
    ordered = sorted(rows, key=lambda row: natural_key(row.case))
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(field.name for field in fields(VolumeRow))
        writer.writerows(astuple(row) for row in ordered)


def merge_volumes(known: Sequence[VolumeRow], new: Sequence[VolumeRow]) -> list[VolumeRow]:
    """Combine the rows of two tables; where both have a case, the new rows stay."""
    again = {row.case for row in new}
    return [*(row for row in known if row.case not in again), *new]
