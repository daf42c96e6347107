"""``heartseg prepare``: volumes to slices, masks and the manifest that ties them together."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from heartseg.cohort.cases import CaseFiles, find_cases
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.files import claim_folder, remove_unfinished
from heartseg.labels import LabelTable
from heartseg.lock import locked
from heartseg.parallel import map_cases, place_for_workers
from heartseg.pictures.charts import draw_bar_charts
from heartseg.pictures.sheets import contact_sheet, evenly_spaced
from heartseg.progress import Report, silent
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.volume import check_same_grid, read_image, read_label_map
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

OWNED = (
    "images/*.png",
    "masks/*.png",
    MANIFEST,
    PREPARE_STATE,
    "statistics.png",
    "samples_images.png",
    "samples_masks.png",
)
_SHEET_COLUMNS = 6


@dataclass(frozen=True)
class PrepareResult:
    """What ``prepare`` did.

    Attributes:
        master_dir: Where the slices lie.
        num_cases: Cases in the manifest.
        num_slices: Slices in the manifest.
        num_written: Slices that were not there before.
    """

    master_dir: Path
    num_cases: int
    num_slices: int
    num_written: int


@dataclass(frozen=True)
class PreparedCase:
    """What came of one case.

    Attributes:
        records: Its rows of the manifest.
        num_written: Slices that were not there before.
        structure_slices: Prepared slices that hold each structure, by key.
        label_hash: Fingerprint of the label map.
        image_hash: Fingerprint of the scan.
        shape: Shape of the volume.
        affine: Its affine, row by row: with the shape, all that rebuilding the volume needs.
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

    A run that was interrupted, or in which some cases failed, is continued: only slices that are
    missing are written.

    Args:
        config: Uses the sections ``data``, ``prepare``, ``labels`` and ``parallel``.
        overwrite: Replace the slices of an earlier, finished run.
        report: Told after each case.

    Returns:
        Counts of cases and slices.

    Raises:
        DataError: If there is nothing to prepare, or the output folder holds something else, or
            another process is at work there.
        BatchError: If some cases cannot be prepared; the others are.
    """
    data = config.data
    cases, problems = find_cases(
        place_for_workers(data.source_dir, config.parallel.backend),
        image_suffix=data.image_suffix,
        label_suffix=data.label_suffix,
    )
    with locked(data.master_dir):
        return _prepare_cases(config, cases, problems, overwrite=overwrite, report=report)


def _prepare_cases(
    config: Config,
    cases: Sequence[CaseFiles],
    problems: list[str],
    *,
    overwrite: bool,
    report: Report,
) -> PrepareResult:
    """Prepare the cases in a folder that nobody else writes to."""
    master_dir = config.data.master_dir
    recipe = SliceRecipe.from_dict(config.recipe_values)
    channels = {"image_channels"}
    plan = PreparedState(
        # As it reads back from JSON: lists, not tuples.
        recipe=json.loads(
            json.dumps({k: v for k, v in recipe.to_dict().items() if k not in channels})
        ),
        keep_empty=config.prepare.keep_empty,
        labels=json.loads(json.dumps([asdict(s) for s in config.label_table.structures])),
        sources={case.name: _fingerprint(case) for case in cases},
    )
    unchanged = _open_master(master_dir, plan, overwrite=overwrite)
    write_prepared_state(master_dir, plan)

    work = partial(
        prepare_case,
        master_dir=place_for_workers(master_dir, config.parallel.backend),
        recipe=recipe,
        table=config.label_table,
        keep_empty=config.prepare.keep_empty,
        keep_existing=unchanged,
    )
    outcomes = map_cases(
        work,
        cases,
        jobs=config.parallel.jobs,
        backend=config.parallel.backend,
        address=config.parallel.address,
        report=report,
        describe=lambda case: case.name,
    )
    # What a worker left that was killed while it wrote.
    for part in ("images", "masks"):
        remove_unfinished(master_dir / part)
    done = {o.item.name: o.result for o in outcomes if o.result is not None}
    problems += [o.problem for o in outcomes if o.problem is not None]
    result = _finish(
        master_dir, done, table=config.label_table, num_samples=config.prepare.num_samples
    )
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
    if problems:
        raise BatchError(
            f"{len(problems)} of {len(done) + len(problems)} cases could not be prepared "
            f"({result.num_slices} slices of the others are in {master_dir})",
            problems,
        )
    if not result.num_slices:
        raise DataError(f"{config.data.source_dir}: no slice holds a structure")
    return result


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
        master_dir: Where ``images/`` and ``masks/`` lie.
        recipe: How slices are cut, resized and windowed.
        table: The labels and their colours.
        keep_empty: Whether slices without a structure are written too.
        keep_existing: Cases whose slices on disk still fit their source.

    Raises:
        DataError: If a file is broken, or image and label map disagree.
    """
    labels = read_label_map(case.label_file, table)
    image = read_image(case.image_file)
    check_same_grid(image, labels, names=(str(case.image_file), str(case.label_file)))
    try:
        prepared = PreparedVolume(image, recipe)
    except DataError as error:
        raise DataError(f"{case.image_file}: {error}") from error
    row_mm, col_mm = prepared.layout.spacing_mm(image.affine)
    records, held = [], Counter[str]()
    num_written = 0
    for index, label_slice in enumerate(prepared.layout.stack(labels.voxels)):
        values = np.flatnonzero(np.bincount(label_slice.ravel(), minlength=table.num_classes)[1:])
        if not values.size and not keep_empty:
            continue
        held.update(table.foreground[value].key for value in values)
        record = SliceRecord(
            file=slice_file_name(case.name, index),
            case=case.name,
            slice=index,
            plane=recipe.plane,
            source=case.image_file.name,
            height=label_slice.shape[0],
            width=label_slice.shape[1],
            spacing_row_mm=round(row_mm, 6),
            spacing_col_mm=round(col_mm, 6),
            foreground=int(np.count_nonzero(label_slice)),
        )
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


def _open_master(master_dir: Path, plan: PreparedState, *, overwrite: bool) -> list[str]:
    """Return the cases whose slices, as far as they exist, need not be written again."""
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
    finished = state.complete and set(known) == set(unchanged) == set(wanted)
    if finished and _is_whole(master_dir):
        raise DataError(
            f"{master_dir}: is already prepared and complete; pass --overwrite to prepare it again"
        )
    for folder in (master_dir, master_dir / "images", master_dir / "masks"):
        remove_unfinished(folder)
    # Before the new state is written: a run that ends early must not leave slices of an earlier
    # source that the next run would take for its own.
    for name in wanted.keys() - set(unchanged):
        _remove_slices(master_dir, name)
    return unchanged


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
    """Return what changes when a source file is replaced; empty if one is not there."""
    try:
        stats = [file.stat() for file in (case.image_file, case.label_file)]
    except OSError:
        return ""
    return ",".join(f"{stat.st_size}:{stat.st_mtime_ns}" for stat in stats)


def _finish(
    master_dir: Path, cases: Mapping[str, PreparedCase], *, table: LabelTable, num_samples: int
) -> PrepareResult:
    """Write what describes all cases together."""
    records = [record for case in cases.values() for record in case.records]
    write_manifest(master_dir / MANIFEST, records)
    if records:
        held = sum((Counter(case.structure_slices) for case in cases.values()), Counter[str]())
        draw_bar_charts(
            master_dir / "statistics.png",
            {
                "slices of each case": {name: len(case.records) for name, case in cases.items()},
                "slices that hold each structure": {s.key: held[s.key] for s in table.foreground},
            },
            title=f"{len(records):,} slices of {len(cases)} cases",
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
