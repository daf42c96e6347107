"""How much of each structure a label map holds, and the table that collects it."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import natural_key, replacing
from heartseg.inference.postprocess import touches_border
from heartseg.labels import LabelTable


@dataclass(frozen=True)
class VolumeRow:
    """The volume of one structure in one case; a row of ``volumes.csv``.

    Attributes:
        case: Name of the case.
        structure: Key of the structure.
        volume_ml: Its volume.
        voxels: Its number of voxels.
        flags: ``absent`` without a voxel; ``truncated`` where it reaches the border of the scan,
            so that part of it may lie outside; ``doubtful`` where the model does not trust its
            own answer; joined by semicolons.
        quality: How far the model's looks at the structure agree, 0 to 1; None where it is absent
            or the model looks once only.
    """

    case: str
    structure: str
    volume_ml: float
    voxels: int
    flags: str
    quality: float | None = None


def measure_volumes(
    case: str,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    table: LabelTable,
    *,
    quality: NDArray[np.float64] | None = None,
    doubtful: NDArray[np.bool_] | None = None,
) -> list[VolumeRow]:
    """Measure each structure of a label map, background left out.

    Args:
        case: Name of the case.
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.
        quality: ``(structures,)`` what stands in the column ``quality``; NaN leaves it empty.
        doubtful: ``(structures,)`` which structures are flagged.
    """
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    counts = np.bincount(labels.ravel(), minlength=table.num_classes)
    truncated = touches_border(labels, table.num_classes)
    rows = []
    for index, structure in enumerate(table.foreground):
        voxels = int(counts[structure.value])
        flags = []
        if not voxels:
            flags.append("absent")
        elif truncated[structure.value]:
            flags.append("truncated")
        if voxels and doubtful is not None and doubtful[index]:
            flags.append("doubtful")
        known = voxels > 0 and quality is not None and not np.isnan(quality[index])
        rows.append(
            VolumeRow(
                case,
                structure.key,
                round(voxels * voxel_ml, 4),
                voxels,
                ";".join(flags),
                round(float(quality[index]), 3) if known and quality is not None else None,
            )
        )
    return rows


def read_volumes(file: Path) -> list[VolumeRow]:
    """Read a table of volumes; a missing file gives no rows.

    Raises:
        DataError: If the file is something else.
    """
    names = [field.name for field in fields(VolumeRow)]
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            # Tables of earlier versions end before the quality.
            if list(rows.fieldnames or ()) not in (names, names[:-1]):
                raise DataError(f"{file}: expected the columns {', '.join(names)}")
            return [
                VolumeRow(
                    row["case"],
                    row["structure"],
                    float(row["volume_ml"]),
                    int(row["voxels"]),
                    row["flags"],
                    float(row["quality"]) if row.get("quality") else None,
                )
                for row in rows
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{file}: not a table of volumes ({error})") from error


def write_volumes(file: Path, rows: Iterable[VolumeRow]) -> None:
    """Write a table of volumes; cases in natural order, structures as they come."""
    ordered = sorted(rows, key=lambda row: natural_key(row.case))
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(field.name for field in fields(VolumeRow))
        writer.writerows(astuple(row) for row in ordered)


def merge_volumes(known: Sequence[VolumeRow], new: Sequence[VolumeRow]) -> list[VolumeRow]:
    """Return all rows; those of a case that was measured again are replaced."""
    again = {row.case for row in new}
    return [*(row for row in known if row.case not in again), *new]
