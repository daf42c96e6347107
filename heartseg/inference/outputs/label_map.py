"""The label map of a scan, as NIfTI on the scan's grid: ``CASE_seg.nii.gz``."""

from pathlib import Path

from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedScan
from heartseg.scans.volume import write_label_map

LABEL_MAP_SUFFIX = "_seg"


def _write(file: Path, result: SegmentedScan) -> None:
    write_label_map(
        file, result.labels, like=result.scan, table=result.table, provenance=result.provenance
    )


LABEL_MAP = one_file(f"{LABEL_MAP_SUFFIX}.nii.gz", _write)
