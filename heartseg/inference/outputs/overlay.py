"""A picture with its labels drawn over it: ``NAME_overlay.png``."""

from pathlib import Path

from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedPicture
from heartseg.pictures.overlays import overlay
from heartseg.slices.store import write_color


def _write(file: Path, result: SegmentedPicture) -> None:
    write_color(file, overlay(result.image, result.labels, result.table))


OVERLAY = one_file("_overlay.png", _write)
