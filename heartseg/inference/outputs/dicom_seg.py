"""The label map as a DICOM SEG that refers to the scan's series: ``CASE.seg.dcm``."""

from pathlib import Path

from heartseg import __version__
from heartseg.errors import DataError
from heartseg.exchange.dicom_seg import DICOM_SEG_SUFFIX, write_dicom_seg
from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedScan

_MAX_TEXT = 64
"""Characters of a long string in DICOM."""


def _write(file: Path, result: SegmentedScan) -> None:
    if result.series is None:
        raise DataError(f"{file}: expected a scan that was read from DICOM")
    write_dicom_seg(
        file,
        result.labels,
        affine=result.scan.affine,
        series=result.series,
        table=result.table,
        keys=result.wanted.structures,
        version=", ".join(filter(None, (__version__, result.model.identity)))[:_MAX_TEXT],
    )


DICOM_SEG = one_file(DICOM_SEG_SUFFIX, _write, needs_dicom=True)
