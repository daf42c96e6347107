"""One mask per structure, as NIfTI on the scan's grid: ``CASE_LV.nii.gz``."""

from collections.abc import Sequence
from pathlib import Path

from heartseg.exchange.structure_files import write_split
from heartseg.inference.outputs.output_format import OutputFormat
from heartseg.inference.results import SegmentedScan


def _write(files: Sequence[Path], result: SegmentedScan) -> None:
    write_split(
        files,
        result.labels,
        like=result.scan,
        structures=result.structures,
        provenance=result.provenance,
    )


SPLIT = OutputFormat(("_{structure}.nii.gz",), _write)
