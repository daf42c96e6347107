"""The page of a scan from its label map and the volumes of its structures."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from heartseg.inference.volumetry import VolumeRow
from heartseg.labels import LabelTable
from heartseg.pages.scan_page import Column, Row, ScanPage, Surface
from heartseg.scans.intensity import find_window
from heartseg.scans.volume import Volume

WINDOW_PERCENTILES = (0.5, 99.5)


def build_scan_page(
    image: Volume,
    labels: NDArray[np.uint8],
    table: LabelTable,
    *,
    title: str,
    rows: Sequence[VolumeRow],
    notices: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    surfaces: Sequence[Surface] | None = None,
) -> ScanPage:
    """Put together what the page of a scan shows.

    Args:
        image: The scan.
        labels: ``(X, Y, Z)`` label map on its grid.
        table: The structures and their display colours.
        title: Heading, usually the name of the scan's file without its folder.
        rows: The volumes of its structures.
        notices: What makes the result doubtful, in words.
        provenance: How the answer was made, by name.
        surfaces: Surfaces that are at hand; None: made for the page.
    """
    total_ml = sum(row.volume_ml for row in rows)
    values = {structure.key: structure.value for structure in table.foreground}
    columns = [Column("Volume (mL)"), Column("Part of all structures (%)")]
    with_stability = any(row.stability is not None for row in rows)
    if with_stability:
        columns.append(Column("Stability between views", digits=2))

    def describe(row: VolumeRow) -> Row:
        measured: list[float | None] = [None, None]
        if row.voxels:
            measured = [row.volume_ml, 100 * row.volume_ml / total_ml]
        if with_stability:
            measured.append(row.stability)
        return Row(values[row.structure], measured, row.flags.split(";") if row.flags else ())

    return ScanPage(
        title=title,
        image=image.voxels,
        labels=labels,
        affine=image.affine,
        table=table,
        window=find_window(image.voxels, "percentile", WINDOW_PERCENTILES),
        columns=columns,
        rows=[describe(row) for row in rows],
        facts={"All structures": f"{total_ml:.1f} mL"},
        notices=notices,
        provenance=provenance or {},
        surfaces=surfaces,
    )


def describe_grid(image: Volume) -> str:
    """Return the size and the spacing of a scan in words."""
    voxels = " x ".join(str(side) for side in image.voxels.shape)
    spacing = " x ".join(f"{float(step):.3g}" for step in image.spacing_mm)
    return f"{voxels} voxels of {spacing} mm"
