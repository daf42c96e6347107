"""The volume of each structure of a label map, and the table of volumes, ``volumes.csv``."""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import natural_key, replacing
from heartseg.inference.postprocess import touches_border
from heartseg.labels import LabelTable

VOLUMES = "volumes.csv"
OLD_STABILITY = "quality"
"""What the column ``stability`` was called in earlier versions."""


@dataclass(frozen=True)
class VolumeRow:
    """The volume of one structure in one case; a row of ``volumes.csv``.

    Attributes:
        case: Name of the case.
        structure: Key of the structure.
        volume_ml: Its volume.
        voxels: Its number of voxels.
        flags: ``absent`` without a voxel; ``truncated`` where it reaches the border of the scan,
            so that part of it may lie outside; ``doubtful`` where the views of the model disagree;
            ``learned`` where the model has seen the case in training; joined by semicolons.
        stability: Stability of the structure between views, 0 to 1; None where it is absent or the
            model views a scan once.
    """

    case: str
    structure: str
    volume_ml: float
    voxels: int
    flags: str
    stability: float | None = None


def measure_volumes(
    case: str,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    table: LabelTable,
    *,
    stability: NDArray[np.float64] | None = None,
    doubtful: NDArray[np.bool_] | None = None,
    learned: bool = False,
) -> list[VolumeRow]:
    """Measure each structure of a label map, background left out.

    Args:
        case: Name of the case.
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.
        stability: ``(structures,)`` stability between views; NaN where there is none.
        doubtful: ``(structures,)``, True where a structure is flagged.
        learned: Whether the model has seen the case in training.

    Returns:
        One row per structure, in the order of their values.
    """
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    counts = np.bincount(labels.ravel(), minlength=table.num_classes)
    truncated = touches_border(labels, table.num_classes)
    rows = []
    for index, structure in enumerate(table.foreground):
        voxels = int(counts[structure.value])
        flags = ["absent"]
        known = None
        if voxels:
            is_doubtful = doubtful is not None and bool(doubtful[index])
            flags = ["truncated"] if truncated[structure.value] else []
            flags += ["doubtful"] if is_doubtful else []
            known = None if stability is None else float(stability[index])
        flags += ["learned"] if learned else []
        rows.append(
            VolumeRow(
                case,
                structure.key,
                round(voxels * voxel_ml, 4),
                voxels,
                ";".join(flags),
                None if known is None or math.isnan(known) else round(known, 3),
            )
        )
    return rows


def read_volumes(file: Path) -> list[VolumeRow]:
    """Read a table of volumes, of this or an earlier version; a missing file gives no rows.

    Raises:
        DataError: If the file is something else.
    """
    names = [field.name for field in fields(VolumeRow)]
    # Earlier versions had the last column under another name, or not at all.
    known_headers = (names, [*names[:-1], OLD_STABILITY], names[:-1])
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            header = list(rows.fieldnames or ())
            if header not in known_headers:
                raise DataError(
                    f"{file}: expected the columns {', '.join(names)}; found "
                    f"{', '.join(header) or 'an empty file'}"
                )
            return [
                VolumeRow(
                    row["case"],
                    row["structure"],
                    float(row["volume_ml"]),
                    int(row["voxels"]),
                    row["flags"],
                    float(cell) if cell else None,
                )
                for row in rows
                for cell in [row.get("stability") or row.get(OLD_STABILITY)]
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
    """Combine the rows of two tables; where both have a case, the new rows stay."""
    again = {row.case for row in new}
    return [*(row for row in known if row.case not in again), *new]
