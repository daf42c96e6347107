"""The page of a scan from its label map and the numbers of its structures."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heartseg.inference.volumetry import VolumeRow
from heartseg.label_tables import blood_structures
from heartseg.labels import LabelTable
from heartseg.measurements.structures import VolumeRatio
from heartseg.pages.scan_page import Column, Row, ScanPage
from heartseg.scans.intensity import find_window
from heartseg.scans.volume import Volume

if TYPE_CHECKING:
    from heartseg.measurements.diameters import VesselDiameters
    from heartseg.measurements.shapes import StructureShape

WINDOW_PERCENTILES = (0.5, 99.5)
_ALWAYS = ("Volume (mL)", "Part of all structures (%)")
"""Columns that stand in the table also if nothing was found."""


def build_scan_page(
    image: Volume,
    labels: NDArray[np.uint8],
    table: LabelTable,
    *,
    title: str,
    rows: Sequence[VolumeRow],
    ratios: Sequence[VolumeRatio] = (),
    shapes: "Mapping[str, StructureShape] | None" = None,
    body_m2: float | None = None,
    notices: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
) -> ScanPage:
    """Put together what the page of a scan shows.

    Args:
        image: The scan.
        labels: ``(X, Y, Z)`` label map on its grid.
        table: The structures and their display colours.
        title: Heading, usually the name of the scan's file without its folder.
        rows: The numbers of its structures; the page shows these structures.
        ratios: Of their volumes.
        shapes: What was measured on their surfaces, by their keys.
        body_m2: Body surface area of the patient, if it is known.
        notices: What makes the result doubtful, in words.
        provenance: How the answer was made, by name.
    """
    total_ml = sum(row.volume_ml for row in rows)
    values = {structure.key: structure.value for structure in table.foreground}
    columns = [
        (column, value)
        for column, value in _list_columns(total_ml)
        if any(value(row) is not None for row in rows) or column.title in _ALWAYS
    ]
    facts = {"All structures": f"{total_ml:.1f} mL"}
    blood = {structure.key for structure in blood_structures(table)}
    if any(row.structure not in blood for row in rows):
        blood_ml = sum(row.volume_ml for row in rows if row.structure in blood)
        facts["Blood, without muscle"] = f"{blood_ml:.1f} mL"
    facts |= {entry.name: _describe_ratio(entry) for entry in ratios if entry.ratio is not None}
    if body_m2 is not None:
        facts["Body surface area"] = f"{body_m2:.2f} m\N{SUPERSCRIPT TWO}"
    for key, shape in (shapes or {}).items():
        if shape.diameters is not None:
            facts[f"{key}, places of the diameters"] = _describe_places(shape.diameters)
    return ScanPage(
        title=title,
        image=image.voxels,
        labels=labels,
        affine=image.affine,
        table=table,
        window=find_window(image.voxels, "percentile", WINDOW_PERCENTILES),
        columns=[column for column, _ in columns],
        rows=[
            Row(
                values[row.structure],
                [value(row) if row.voxels else None for _, value in columns],
                # That the model has seen the patient holds for the scan, and is a notice.
                [flag for flag in row.flags.split(";") if flag not in ("", "learned")],
            )
            for row in rows
        ],
        facts=facts,
        notices=notices,
        provenance=provenance or {},
        structures=[table.structures[values[row.structure]] for row in rows],
    )


def _list_columns(total_ml: float) -> list[tuple[Column, Callable[[VolumeRow], float | None]]]:
    """Return all columns of the table, and how each takes its value from a row."""
    return [
        (Column("Volume (mL)"), lambda row: row.volume_ml),
        (Column("Volume (mL/m\N{SUPERSCRIPT TWO})"), lambda row: row.volume_ml_per_m2),
        (
            Column("Part of all structures (%)"),
            lambda row: 100 * row.volume_ml / total_ml if total_ml else None,
        ),
        (Column("Mean intensity", digits=2), lambda row: row.mean_intensity),
        (
            Column("Surface area (cm\N{SUPERSCRIPT TWO})"),
            lambda row: None if row.surface_area_mm2 is None else row.surface_area_mm2 / 100,
        ),
        (Column("Largest diameter (mm)"), lambda row: row.largest_diameter_mm),
        (Column("Median diameter (mm)"), lambda row: row.median_diameter_mm),
        (Column("Smallest diameter (mm)"), lambda row: row.smallest_diameter_mm),
        (Column("Stability between views", digits=2), lambda row: row.stability),
        (Column("Confidence", digits=2), lambda row: row.confidence),
    ]


def _describe_ratio(ratio: VolumeRatio) -> str:
    lower = "; one of them reaches the border of the scan" if ratio.truncated else ""
    return f"{ratio.ratio:.2f}{lower}"


def _describe_places(diameters: "VesselDiameters") -> str:
    """Return where the diameters of a vessel were measured, in the words of the page's planes."""
    entries = (
        ("largest", diameters.largest),
        ("median", diameters.median),
        ("smallest", diameters.smallest),
    )
    return "; ".join(f"{name} at {_describe_place(entry.place_mm)}" for name, entry in entries)


def _describe_place(place_mm: tuple[float, float, float]) -> str:
    sides = (
        sides[0] if value >= 0 else sides[1]
        for value, sides in zip(place_mm, ("RL", "AP", "SI"), strict=True)
    )
    parts = (f"{side} {abs(value):.1f}" for side, value in zip(sides, place_mm, strict=True))
    return f"{', '.join(parts)} mm"


def describe_grid(image: Volume) -> str:
    """Return the size and the spacing of a scan in words."""
    voxels = " x ".join(str(side) for side in image.voxels.shape)
    spacing = " x ".join(f"{float(step):.3g}" for step in image.spacing_mm)
    return f"{voxels} voxels of {spacing} mm"
