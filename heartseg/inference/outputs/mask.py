"""The colour mask of a picture, in the published colours: ``NAME.png``."""

from pathlib import Path

from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedPicture
from heartseg.slices.store import write_mask


def _write(file: Path, result: SegmentedPicture) -> None:
    write_mask(file, result.labels, result.table)


MASK = one_file(".png", _write)
