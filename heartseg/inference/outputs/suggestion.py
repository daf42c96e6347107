"""The slices to draw next: ``CASE_suggested.csv``, and ``CASE_suggested.nii.gz`` to correct.

The label map holds the current answer on exactly these slices, and 255 (unknown) elsewhere.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from heartseg.cohort.inputs import SUGGESTED
from heartseg.errors import DataError
from heartseg.files import replacing
from heartseg.inference.outputs.output_format import OutputFormat
from heartseg.inference.results import SegmentedScan
from heartseg.scans.volume import UNLABELLED, write_label_map

COLUMNS = ("axis", "slice", "x_mm", "y_mm", "z_mm", "unsure_voxels")


def _write(files: Sequence[Path], result: SegmentedScan) -> None:
    table, template = files
    if result.doubt is None:
        raise DataError(
            f"{table}: no slices can be suggested for {result.case}: it was segmented by a network "
            "of slices, or is turned against the patient's axes"
        )
    labels = np.full(result.labels.shape, UNLABELLED, np.uint8)
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for chosen in result.suggested:
            plane = np.moveaxis(labels, chosen.axis, 0)[chosen.index]
            plane[...] = np.moveaxis(result.labels, chosen.axis, 0)[chosen.index]
            # Slicer and nibabel count axes from 0 and slices from 0 too.
            writer.writerow(
                (chosen.axis, chosen.index, *chosen.position_mm, round(chosen.unsure_voxels, 1))
            )
    write_label_map(template, labels, like=result.scan, table=result.table)


SUGGESTION = OutputFormat((f"{SUGGESTED}.csv", f"{SUGGESTED}.nii.gz"), _write)
