"""``heartseg prepare``: from volumes to slices, masks and the manifest that lists them."""

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.cases import CaseFiles
from heartseg.cohort.data_set import DataSet
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.files import remove_unfinished
from heartseg.labels import LabelTable
from heartseg.lock import locked
from heartseg.ownership import Outputs, claim_folder, discard, finish_record
from heartseg.parallel import map_cases, place_for_workers
from heartseg.pictures.charts import draw_bar_charts
from heartseg.pictures.sheets import contact_sheet, evenly_spaced
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.runs.source_data import find_source
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.intensity import find_clipping
from heartseg.scans.volume import Volume, check_same_grid, read_image, read_label_map
from heartseg.slices.manifest import (
    MANIFEST,
    SliceRecord,
    read_manifest,
    slice_file_name,
    write_manifest,
)
from heartseg.slices.prepared import (
    PREPARE_STATE,
    PreparedState,
    read_prepared_state,
    write_prepared_state,
)
from heartseg.slices.recipe import PreparedVolume, SliceRecipe
from heartseg.slices.store import read_color, read_gray, write_color, write_gray, write_mask

logger = logging.getLogger(__name__)

OWNED = Outputs(
    "prepare",
    (
        "images/*.png",
        "masks/*.png",
        MANIFEST,
        PREPARE_STATE,
        "statistics.png",
        "samples_images.png",
        "samples_masks.png",
    ),
)
_SHEET_COLUMNS = 6


@dataclass(frozen=True)
class PrepareResult:
    """What ``prepare`` did.

    Attributes:
        master_dir: Folder of the slices.
        num_cases: Cases in the manifest.
        num_slices: Slices in the manifest.
        num_written: Slices that were written now; the others existed already.
    """

    master_dir: Path
    num_cases: int
    num_slices: int
    num_written: int


@dataclass(frozen=True)
class PreparedCase:
    """The result of one case.

    Attributes:
        records: Its rows of the manifest.
        num_written: Slices that were written now.
        structure_slices: Number of prepared slices that hold each structure, by key.
        label_hash: Fingerprint of the label map.
        image_hash: Fingerprint of the scan.
        shape: Shape of the volume.
        affine: Affine of the volume, row by row. Shape and affine are enough to rebuild the volume
            from its slices.
    """

    records: tuple[SliceRecord, ...]
    num_written: int
    structure_slices: Mapping[str, int]
    label_hash: str
    image_hash: str
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]


def run_prepare(
    config: Config, *, overwrite: bool = False, report: Report = silent
) -> PrepareResult:
    """Prepare the slices of every case in ``data.source_dir``.

    After an interruption, or if some cases failed, the same command continues: it writes only the
    missing slices.

    Args:
        config: Uses the sections ``data``, ``prepare``, ``labels`` and ``parallel``.
        overwrite: Replace the slices of an earlier, finished run.
        report: Called after each case.

    Returns:
        Numbers of cases and slices.

    Raises:
        DataError: If there is nothing to prepare, the output folder holds something else, or
            another process is using it.
        BatchError: If some cases cannot be prepared; the others are.
    """
    source = find_source(config)
    for notice in source.notices:
        logger.warning("%s", notice)
    with locked(config.data.master_dir):
        return _prepare_cases(config, source, overwrite=overwrite, report=report)


def is_prepared(config: Config) -> bool:
    """Return whether all cases in ``data.source_dir`` are prepared as the configuration says.

    Raises:
        DataError: If the folder of the scans or the record of the prepared slices cannot be read.
    """
    data = config.data
    state = read_prepared_state(data.master_dir)
    if state is None:
        return False
    plan = _plan_state(config, find_source(config))
    return state.is_made_like(plan) and _is_finished(data.master_dir, state, plan)


def _prepare_cases(
    config: Config, source: DataSet, *, overwrite: bool, report: Report
) -> PrepareResult:
    """Prepare the cases in a folder that no other process writes to."""
    master_dir, table = config.data.master_dir, source.table
    plan = _plan_state(config, source)
    unchanged = _open_master(master_dir, plan, overwrite=overwrite)
    write_prepared_state(master_dir, plan)

    done, failures = _write_slices(config, source, unchanged, report=report)
    problems = [*source.problems, *failures]
    result = _write_overview(master_dir, done, table=table, num_samples=config.prepare.num_samples)
    write_prepared_state(
        master_dir,
        replace(
            plan,
            complete=not problems,
            sources={name: plan.sources[name] for name in done},
            label_hashes={name: case.label_hash for name, case in done.items()},
            image_hashes={name: case.image_hash for name, case in done.items()},
            grids={n: {"shape": case.shape, "affine": case.affine} for n, case in done.items()},
        ),
    )
    if not result.num_slices:
        # Nothing is worth keeping, and the settings of a failed start bind nobody.
        discard(master_dir, OWNED)
    else:
        finish_record(master_dir, OWNED)
    if problems:
        raise BatchError(
            f"{len(problems)} of {counted(len(done) + len(problems), 'case')} could not be "
            f"prepared ({counted(result.num_slices, 'slice')} of the others in {master_dir})",
            problems,
        )
    if not result.num_slices:
        raise DataError(
            f"{config.data.source_dir}: expected label maps with structures, found background only"
        )
    return result


def _plan_state(config: Config, source: DataSet) -> PreparedState:
    """Return the settings that decide what the slices look like, and the source files."""
    recipe = SliceRecipe.from_dict(config.recipe_values).to_dict()
    # Channels matter to the network only, not to the slices on disk.
    del recipe["image_channels"], recipe["context"]
    labels = source.table.description
    # As they are read back from JSON: lists in place of tuples.
    recipe, labels = json.loads(json.dumps([recipe, labels]))
    return PreparedState(
        recipe=recipe,
        keep_empty=config.prepare.keep_empty,
        labels=labels,
        sources={case.name: _fingerprint(case) for case in source.cases},
    )


def _write_slices(
    config: Config, source: DataSet, unchanged: Sequence[str], *, report: Report
) -> tuple[dict[str, PreparedCase], list[str]]:
    """Write the slices of all cases; return the prepared cases and the problems of the others."""
    master_dir, parallel = config.data.master_dir, config.parallel
    outcomes = map_cases(
        partial(
            prepare_case,
            master_dir=place_for_workers(master_dir, parallel.backend),
            recipe=SliceRecipe.from_dict(config.recipe_values),
            table=source.table,
            keep_empty=config.prepare.keep_empty,
            keep_existing=unchanged,
        ),
        source.cases,
        jobs=parallel.jobs,
        backend=parallel.backend,
        address=parallel.address,
        report=report,
        describe=lambda case: case.name,
    )
    # A worker that was killed may have left incomplete files.
    for part in ("images", "masks"):
        remove_unfinished(master_dir / part)
    done = {o.item.name: o.result for o in outcomes if o.result is not None}
    return done, [o.problem for o in outcomes if o.problem is not None]


def prepare_case(
    case: CaseFiles,
    *,
    master_dir: Path,
    recipe: SliceRecipe,
    table: LabelTable,
    keep_empty: bool,
    keep_existing: Sequence[str] = (),
) -> PreparedCase:
    """Write the slices and masks of one case.

    Args:
        case: The files of the case.
        master_dir: Folder of ``images/`` and ``masks/``.
        recipe: How slices are cut, resized and windowed.
        table: The labels and their colours.
        keep_empty: Whether slices without a structure are written too.
        keep_existing: Cases whose slices on disk still belong to their source files.

    Raises:
        DataError: If a file is broken, or image and label map do not fit each other.
    """
    image, labels, prepared = _read_case(case, recipe, table)
    spacing_mm = prepared.layout.spacing_mm(image.affine)
    records, held = [], Counter[str]()
    num_written = 0
    for index, label_slice in enumerate(prepared.layout.stack(labels.voxels)):
        values = np.flatnonzero(np.bincount(label_slice.ravel(), minlength=table.num_classes)[1:])
        if not values.size and not keep_empty:
            continue
        held.update(table.foreground[value].key for value in values)
        record = _describe_slice(case, index, label_slice, recipe.plane, spacing_mm)
        records.append(record)
        image_file, mask_file = (master_dir / part / record.file for part in ("images", "masks"))
        if case.name in keep_existing and image_file.is_file() and mask_file.is_file():
            continue
        write_gray(image_file, prepared[index])
        write_mask(mask_file, prepared.grid.labels_to_network(label_slice), table)
        num_written += 1
    return PreparedCase(
        tuple(records),
        num_written,
        dict(held),
        fingerprint_labels(labels),
        fingerprint_scan(image),
        shape=labels.voxels.shape,
        affine=tuple(tuple(row) for row in labels.affine.tolist()),
    )


def _describe_slice(
    case: CaseFiles,
    index: int,
    labels: NDArray[np.integer],
    plane: str,
    spacing_mm: tuple[float, float],
) -> SliceRecord:
    """Return the row of the manifest for one slice of labels ``(H, W)``."""
    return SliceRecord(
        file=slice_file_name(case.name, index),
        case=case.name,
        slice=index,
        plane=plane,
        source=case.image_file.name,
        height=labels.shape[0],
        width=labels.shape[1],
        spacing_row_mm=round(spacing_mm[0], 6),
        spacing_col_mm=round(spacing_mm[1], 6),
        foreground=int(np.count_nonzero(labels)),
    )


def _read_case(
    case: CaseFiles, recipe: SliceRecipe, table: LabelTable
) -> tuple[Volume, Volume, PreparedVolume]:
    """Read the image and the label map of a case, and prepare the slices of the image.

    Raises:
        DataError: If a file is broken, or image and label map do not fit each other.
    """
    labels = read_label_map(case.label_file, table, from_source=True)
    image = read_image(case.image_file)
    check_same_grid(image, labels, names=(str(case.image_file), str(case.label_file)))
    try:
        prepared = PreparedVolume(image, recipe)
    except DataError as error:
        raise DataError(f"{case.image_file}: {error}") from error
    clipping = find_clipping(image.voxels, prepared.limits)
    if clipping is not None:
        advice = (
            "prepare.window_range to intensities of the scan, or pass --set "
            "prepare.window=percentile --set prepare.window_range=[0.5,99.5]"
            if recipe.window == "fixed"
            else "prepare.window_range to percentiles further apart, such as [0.5,99.5]"
        )
        raise DataError(f"{case.image_file}: {clipping}. Set {advice}")
    return image, labels, prepared


def _open_master(master_dir: Path, plan: PreparedState, *, overwrite: bool) -> list[str]:
    """Return the cases whose existing slices need not be written again.

    Raises:
        DataError: If the folder is complete, was prepared with other settings, is damaged or holds
            something else, and ``overwrite`` is not set.
    """
    state = None if overwrite else read_prepared_state(master_dir)
    if state is None:
        claim_folder(master_dir, OWNED, overwrite=overwrite)
        return []
    if not state.is_made_like(plan):
        raise DataError(
            f"{master_dir}: was prepared with other settings; pass --overwrite to prepare it "
            "again, or choose another data.master_dir"
        )
    known, wanted = state.sources, plan.sources
    unchanged = [name for name, value in wanted.items() if known.get(name) == value]
    if _is_finished(master_dir, state, plan):
        raise DataError(
            f"{master_dir}: is already prepared and complete; pass --overwrite to prepare it again"
        )
    for folder in (master_dir, master_dir / "images", master_dir / "masks"):
        remove_unfinished(folder)
    # Before the new state is written: if this run is interrupted, the next one must not use slices
    # of an earlier source.
    for name in wanted.keys() - set(unchanged):
        _remove_slices(master_dir, name)
    return unchanged


def _is_finished(master_dir: Path, state: PreparedState, plan: PreparedState) -> bool:
    """Return whether all cases are prepared from the sources that are there now."""
    return state.complete and state.sources == plan.sources and _is_whole(master_dir)


def _remove_slices(master_dir: Path, case: str) -> None:
    pattern = re.compile(rf"{re.escape(case)}_\d+\.png")
    for part in ("images", "masks"):
        for file in (master_dir / part).glob(f"{case}_*.png"):
            if pattern.fullmatch(file.name):
                file.unlink(missing_ok=True)


def _is_whole(master_dir: Path) -> bool:
    manifest = master_dir / MANIFEST
    return manifest.is_file() and all(
        (master_dir / part / record.file).is_file()
        for record in read_manifest(manifest)
        for part in ("images", "masks")
    )


def _fingerprint(case: CaseFiles) -> str:
    """Return a text that changes when a source file is replaced; empty if one is missing."""
    try:
        stats = [file.stat() for file in (case.image_file, case.label_file)]
    except OSError:
        return ""
    return ",".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)


def _write_overview(
    master_dir: Path, cases: Mapping[str, PreparedCase], *, table: LabelTable, num_samples: int
) -> PrepareResult:
    """Write the manifest, the statistics and the sample sheets of all cases."""
    records = [record for case in cases.values() for record in case.records]
    write_manifest(master_dir / MANIFEST, records)
    if records:
        held = sum((Counter(case.structure_slices) for case in cases.values()), Counter[str]())
        draw_bar_charts(
            master_dir / "statistics.png",
            {
                "slices per case": {name: len(case.records) for name, case in cases.items()},
                "slices per structure": {s.key: held[s.key] for s in table.foreground},
            },
            title=f"{counted(len(records), 'slice')} of {counted(len(cases), 'case')}",
        )
        samples = [records[index].file for index in evenly_spaced(len(records), num_samples)]
        for part, read in (("images", read_gray), ("masks", read_color)):
            tiles = [read(master_dir / part / name) for name in samples]
            sheet = contact_sheet(tiles, columns=_SHEET_COLUMNS)
            write_color(master_dir / f"samples_{part}.png", sheet)
    return PrepareResult(
        master_dir=master_dir,
        num_cases=len(cases),
        num_slices=len(records),
        num_written=sum(case.num_written for case in cases.values()),
    )
