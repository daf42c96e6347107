"""``heartseg dataset export``: the data set in the layout of nnU-Net v2 or of the Decathlon."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.cases import CaseFiles, Place
from heartseg.cohort.data_set import CHANNEL, IMAGES, LABELS, DataSet
from heartseg.cohort.dataset_json import (
    DATASET_JSON,
    describe_for_decathlon,
    describe_for_nnunet,
)
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.files import natural_key, replacing, write_json
from heartseg.labels import LabelTable
from heartseg.ownership import Outputs, filling
from heartseg.parallel import map_cases, place_for_workers
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.runs.held_out import find_splits
from heartseg.runs.source_data import find_source
from heartseg.scans.volume import (
    check_same_grid,
    read_image,
    read_label_map,
    sheared_axes_mm,
    write_image,
)

logger = logging.getLogger(__name__)

Target = Literal["nnunet", "msd"]
SPLITS = "splits_final.json"
OWNED = Outputs(
    "dataset export",
    (f"{IMAGES}/*.nii.gz", f"{LABELS}/*.nii.gz", DATASET_JSON, SPLITS),
    # Data sets that others made have the same names.
    known_by_name=False,
)


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        output_dir: Folder of the data set.
        num_cases: Cases in it.
        num_folds: Folds in ``splits_final.json``; 0 if there is none.
    """

    output_dir: Path
    num_cases: int
    num_folds: int


def run_export(
    config: Config,
    target: Target,
    output_dir: Path,
    *,
    overwrite: bool = False,
    report: Report = silent,
) -> ExportResult:
    """Write every complete case of the data set in the layout of another program.

    Images and label maps are written anew, on one grid, without the texts of their headers; label
    maps hold the values of the label table as 8-bit integers. For nnU-Net, ``splits_final.json``
    holds the folds of the split, if there is one by patient: a fold's test cases are nnU-Net's
    ``val``, and all others its ``train``, so that each program learns from no case that it is
    scored on.

    Args:
        config: Uses the sections ``data``, ``labels``, ``split`` and ``parallel``.
        target: ``nnunet`` or ``msd``.
        output_dir: Folder of the new data set.
        overwrite: Replace an earlier export.
        report: Told after each case.

    Raises:
        DataError: If there is no data set, the folder holds something else, or the split names
            other cases.
        BatchError: If some cases cannot be read; the others are written.
    """
    source = find_source(config)
    folds = _find_folds(config, source) if target == "nnunet" else []
    with filling(output_dir, OWNED, overwrite=overwrite):
        done, problems = _write_cases(config, source, target, output_dir, report)
        if done:
            names = [case.name for case in done]
            sheared = any(done.values())
            write_json(output_dir / DATASET_JSON, _describe(source.table, target, names, sheared))
            if folds:
                with replacing(output_dir / SPLITS) as temporary:
                    temporary.write_text(json.dumps(folds, indent=1) + "\n", encoding="utf-8")
    problems = [*source.problems, *problems]
    if problems:
        raise BatchError(
            f"{len(problems)} of {counted(len(done) + len(problems), 'case')} could not be "
            f"exported ({len(done)} are in {output_dir})",
            problems,
        )
    return ExportResult(output_dir, len(done), len(folds))


def _places(target: Target, folder: Path) -> tuple[Place, Place]:
    """Return where images and label maps go."""
    suffix = CHANNEL if target == "nnunet" else ""
    return Place(folder / IMAGES, suffix), Place(folder / LABELS)


def _describe(
    table: LabelTable, target: Target, names: Sequence[str], sheared: bool
) -> dict[str, Any]:
    if target == "nnunet":
        return describe_for_nnunet(table, len(names), sheared=sheared)
    files = [(f"{IMAGES}/{name}.nii.gz", f"{LABELS}/{name}.nii.gz") for name in names]
    return describe_for_decathlon(table, files, name="heart")


def _find_folds(config: Config, source: DataSet) -> list[dict[str, list[str]]]:
    """Return nnU-Net's form of the folds; empty, with a warning, if cases are not kept together.

    Raises:
        DataError: If a fold names a case that the data set lacks.
    """
    splits = find_splits(config)
    if any(split.by == "slice" for split in splits):
        logger.warning(
            "%s: divides slices, not patients; %s is not written, and nnU-Net draws its own folds",
            config.data.dataset_dir,
            SPLITS,
        )
        return []
    known = {case.name for case in source.cases}
    folds = []
    for split in splits:
        learned = [*split.cases.get("train", ()), *split.cases.get("valid", ())]
        scored = split.cases.get("test", ())
        missing = sorted({*learned, *scored} - known, key=natural_key)
        if missing:
            raise DataError(
                f"{config.data.dataset_dir}: the split names {', '.join(missing)}, which "
                f"{source.folder} lacks or holds twice; run `heartseg split` again"
            )
        folds.append({"train": sorted(learned, key=natural_key), "val": list(scored)})
    return folds


def _write_cases(
    config: Config, source: DataSet, target: Target, output_dir: Path, report: Report
) -> tuple[dict[CaseFiles, bool], list[str]]:
    """Write all cases; return whether each is sheared, and the problems of the others."""
    parallel = config.parallel
    images, labels = _places(target, place_for_workers(output_dir, parallel.backend))
    for place in (images, labels):
        place.folder.mkdir(parents=True, exist_ok=True)
    outcomes = map_cases(
        partial(_write_case, images=images, labels=labels, table=source.table),
        source.cases,
        jobs=parallel.jobs,
        backend=parallel.backend,
        address=parallel.address,
        report=report,
        describe=lambda case: case.name,
    )
    done = {o.item: o.result for o in outcomes if o.result is not None}
    return done, [o.problem for o in outcomes if o.problem is not None]


def _write_case(case: CaseFiles, *, images: Place, labels: Place, table: LabelTable) -> bool:
    """Write one case; return whether its axes are sheared."""
    image = read_image(case.image_file)
    label_map = read_label_map(case.label_file, table, from_source=True)
    check_same_grid(image, label_map, names=(str(case.image_file), str(case.label_file)))
    # One affine for both: those of two files may differ by rounding, which nnU-Net reports.
    for place, voxels in ((images, _compact(image.voxels)), (labels, label_map.voxels)):
        write_image(place.folder / place.name(case.name), voxels, affine=image.affine)
    return sheared_axes_mm(image.affine) is not None


def _compact(voxels: NDArray[np.float32]) -> NDArray[np.generic]:
    """Return intensities as 16-bit integers where that loses nothing, as most scanners store."""
    limits = np.iinfo(np.int16)
    if voxels.min() < limits.min or voxels.max() > limits.max:
        return voxels
    whole = voxels.astype(np.int16)
    return whole if np.array_equal(whole, voxels) else voxels
