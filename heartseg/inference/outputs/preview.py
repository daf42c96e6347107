"""Three planes and six slices of a scan, cropped to the heart: ``CASE_preview.png``."""

from pathlib import Path

from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedScan
from heartseg.pictures.previews import preview_sheet
from heartseg.slices.store import write_color


def _write(file: Path, result: SegmentedScan) -> None:
    sheet = preview_sheet(
        result.scan,
        result.labels,
        result.table,
        plane=result.recipe.plane,
        limits=result.window_limits,
        structures=result.structures,
    )
    write_color(file, sheet)


PREVIEW = one_file("_preview.png", _write)
