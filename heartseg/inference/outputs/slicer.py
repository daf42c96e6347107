"""A segmentation and a colour table for 3D Slicer: ``CASE.seg.nrrd`` and ``CASE.ctbl``."""

from collections.abc import Sequence
from pathlib import Path

from heartseg.exchange.slicer import (
    COLOR_TABLE_SUFFIX,
    SEG_NRRD_SUFFIX,
    write_seg_nrrd,
    write_slicer_colors,
)
from heartseg.inference.outputs.output_format import OutputFormat
from heartseg.inference.results import SegmentedScan


def _write(files: Sequence[Path], result: SegmentedScan) -> None:
    segmentation, colors = files
    write_seg_nrrd(
        segmentation,
        result.labels,
        affine=result.scan.affine,
        table=result.table,
        structures=result.structures,
        provenance=result.provenance,
    )
    write_slicer_colors(colors, result.table)


SLICER = OutputFormat((SEG_NRRD_SUFFIX, COLOR_TABLE_SUFFIX), _write)
