"""``heartseg split``: prepared slices into training, validation and test parts."""

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from heartseg.cohort.clinical import read_clinical_table
from heartseg.cohort.partition import Partition, check_disjoint, draw_folds, draw_partition
from heartseg.cohort.split_record import (
    SPLIT,
    SplitRecord,
    audit_split,
    write_folds,
    write_split_record,
)
from heartseg.config.data_sections import SplitConfig
from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.files import natural_key
from heartseg.ownership import Outputs, filling
from heartseg.pictures.charts import draw_bar_charts
from heartseg.progress import Report, silent
from heartseg.scans.geometry import Plane, SliceLayout
from heartseg.slices.manifest import MANIFEST, SliceRecord, read_manifest
from heartseg.slices.prepared import PreparedState, read_prepared_state

logger = logging.getLogger(__name__)

OWNED = Outputs(
    "split",
    ("train/**", "valid/**", "test/**", "fold_*/**", SPLIT, "statistics.png"),
)


@dataclass(frozen=True)
class SplitResult:
    """What ``split`` did.

    Attributes:
        dataset_dir: Where the parts lie.
        partitions: Names of cases (or of slice files, by slice), one partition a fold.
        slices: Slices in train, valid and test, one entry a fold.
        warnings: What a reader of scores must know.
    """

    dataset_dir: Path
    partitions: tuple[Partition, ...]
    slices: tuple[Mapping[str, int], ...]
    warnings: tuple[str, ...]


def run_split(config: Config, *, overwrite: bool = False, report: Report = silent) -> SplitResult:
    """Divide the prepared slices into parts, by patient unless the configuration says slice.

    Slices are hard links to the prepared ones where the file system allows, else copies.

    Args:
        config: Uses the sections ``data`` and ``split``.
        overwrite: Replace an earlier split.
        report: Told after each part.

    Returns:
        The partitions and their counts.

    Raises:
        DataError: If nothing is prepared, a named case is not there, or a patient would be in
            two parts.
    """
    source = _read_prepared(config)
    partitions = _draw(config.split, source.names, source.strata)
    if not source.by_slice:
        for partition in partitions:
            check_disjoint(partition, hashes=source.label_hashes)

    folds = config.split.folds
    records = []
    with filling(config.data.dataset_dir, OWNED, overwrite=overwrite):
        for fold, partition in enumerate(partitions):
            folder = config.data.dataset_dir / f"fold_{fold}" if folds else config.data.dataset_dir
            progress = _from(report, 3 * fold, 3 * len(partitions))
            parts = source.divide(partition)
            _fill_folder(source.master_dir, folder, parts, progress)
            record = _describe(
                config.split, source, parts, fold=fold, stratified=partition.stratified
            )
            write_split_record(folder / SPLIT, record)
            records.append(record)
        warnings = tuple(dict.fromkeys(text for record in records for text in record.warnings))
        if folds:
            write_folds(config.data.dataset_dir / SPLIT, tuple(partitions), warnings)
    for warning in warnings:
        logger.warning("%s", warning)
    slices = tuple(record.slices for record in records)
    return SplitResult(config.data.dataset_dir, tuple(partitions), slices, warnings)


@dataclass(frozen=True)
class _Prepared:
    """What there is to divide.

    Attributes:
        master_dir: The prepared folder.
        records: Its slices.
        names: What is divided: cases, or slice files.
        state: How the slices were made; None if that is not recorded.
        strata: Category of each name, if the clinical table is used.
        by_slice: Whether slices are divided, not cases.
    """

    master_dir: Path
    records: Sequence[SliceRecord]
    names: Sequence[str]
    state: PreparedState | None
    strata: Mapping[str, str] | None
    by_slice: bool

    @property
    def label_hashes(self) -> Mapping[str, str]:
        """Fingerprint of each case's label map, as far as known."""
        return {} if self.state is None else self.state.label_hashes

    def list_descending(self) -> tuple[str, ...] | None:
        """List the cases whose slices are numbered toward left, posterior or inferior.

        None if that is not known: their grids are recorded by ``prepare``.
        """
        if self.state is None:
            return None
        plane = str(self.state.recipe.get("plane", Plane.SAGITTAL.value))
        affines = {case: np.array(grid["affine"]) for case, grid in self.state.grids.items()}
        return tuple(
            case
            for case, affine in affines.items()
            if not SliceLayout.from_affine(affine, plane).ascending
        )

    def divide(self, partition: Partition) -> dict[str, list[SliceRecord]]:
        """Return the slices of each part."""
        chosen = {part: set(names) for part, names in partition.parts().items()}
        return {
            part: [r for r in self.records if (r.file if self.by_slice else r.case) in names]
            for part, names in chosen.items()
        }


def _read_prepared(config: Config) -> _Prepared:
    master_dir = config.data.master_dir
    records = read_manifest(master_dir / MANIFEST)
    state = read_prepared_state(master_dir)
    if state is None or not state.complete:
        logger.warning("%s: prepare did not finish; only what is there is split", master_dir)
    table_file = config.data.clinical_file
    strata = read_clinical_table(table_file).categories if table_file else None
    if strata is not None:
        strata = _check_strata(strata, {record.case for record in records}, config)
    by_slice = config.split.by == "slice"
    if by_slice:
        names = [record.file for record in records]
        strata = strata and {r.file: strata[r.case] for r in records if r.case in strata}
    else:
        names = sorted({record.case for record in records}, key=natural_key)
    return _Prepared(master_dir, records, names, state, strata, by_slice)


def _check_strata(
    strata: Mapping[str, str], cases: set[str], config: Config
) -> Mapping[str, str] | None:
    """Return the categories of the cases; None, with a warning, if they cannot be used."""
    file = config.data.clinical_file
    if config.split.train_cases is not None:
        logger.warning("%s: not used, since the configuration lists the cases of each part", file)
        return None
    known = {case: category for case, category in strata.items() if case in cases}
    if not known:
        logger.warning(
            "%s: names none of the prepared cases, so the split is not stratified. Its column Pat "
            "holds the numbers of the patients; it names %s, the cases are %s",
            file,
            ", ".join(sorted(strata, key=natural_key)[:3]) or "no case",
            ", ".join(sorted(cases, key=natural_key)[:3]),
        )
        return None
    missing = sorted(cases - known.keys(), key=natural_key)
    if missing:
        logger.warning("%s: has no category of %s", file, ", ".join(missing))
    return known


def _from(report: Report, begun: int, total: int) -> Report:
    """Count on from the parts that are done."""
    return lambda done, _total, what: report(begun + done, total, what)


def _draw(
    split: SplitConfig, names: Sequence[str], strata: Mapping[str, str] | None
) -> list[Partition]:
    if split.train_cases is not None:
        return [_take_lists(split, names)]
    if split.folds:
        return draw_folds(
            names,
            folds=split.folds,
            valid_fraction=split.valid_fraction,
            seed=split.seed,
            strata=strata,
        )
    return [
        draw_partition(
            names,
            train_fraction=split.train_fraction,
            valid_fraction=split.valid_fraction,
            seed=split.seed,
            strata=strata,
        )
    ]


def _take_lists(split: SplitConfig, cases: Sequence[str]) -> Partition:
    partition = Partition(split.train_cases or (), split.valid_cases or (), split.test_cases or ())
    named = [name for part in partition.parts().values() for name in part]
    unknown = sorted(set(named) - set(cases), key=natural_key)
    if unknown:
        raise DataError(
            f"the split names cases that are not prepared: {', '.join(unknown)} (prepared are "
            f"{', '.join(cases)})"
        )
    if not partition.train:
        raise DataError("split.train_cases: expected at least one case")
    left_out = [case for case in cases if case not in named]
    if left_out:
        logger.info("in no part of the split: %s", ", ".join(left_out))
    return partition


def _fill_folder(
    master_dir: Path, folder: Path, parts: Mapping[str, Sequence[SliceRecord]], report: Report
) -> None:
    for done, (part, chosen) in enumerate(parts.items(), start=1):
        _fill_part(master_dir, folder / part, chosen)
        report(done, len(parts), f"{part}: {len(chosen)} slices")
    _draw_statistics(folder, parts)


def _fill_part(master_dir: Path, part_dir: Path, records: Sequence[SliceRecord]) -> None:
    for kind in ("images", "masks"):
        folder = part_dir / kind
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for record in records:
                _link(master_dir / kind / record.file, folder / record.file)
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename}: is named in the manifest but not there; run `heartseg "
                "prepare` again"
            ) from error
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror})") from error


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        # Other file system, or one without hard links.
        shutil.copyfile(source, target)


def _describe(
    split: SplitConfig,
    source: _Prepared,
    parts: Mapping[str, Sequence[SliceRecord]],
    *,
    fold: int,
    stratified: bool,
) -> SplitRecord:
    cases = {
        part: tuple(sorted({record.case for record in chosen}, key=natural_key))
        for part, chosen in parts.items()
    }
    everyone = {case for names in cases.values() for case in names}
    images = {} if source.state is None else source.state.image_hashes
    descending = source.list_descending()
    if descending is not None:
        descending = tuple(case for case in descending if case in everyone)
    record = SplitRecord(
        cases,
        by=split.by,
        seed=split.seed,
        train_fraction=split.train_fraction,
        valid_fraction=split.valid_fraction,
        stratified=stratified,
        folds=split.folds,
        fold=fold,
        slices={part: len(chosen) for part, chosen in parts.items()},
        case_hashes={c: digest for c, digest in source.label_hashes.items() if c in everyone},
        image_hashes={c: digest for c, digest in images.items() if c in everyone},
        recipe={} if source.state is None else source.state.recipe,
        descending=descending,
        slice_hashes=_hash_slices(source.master_dir, parts),
    )
    return replace(record, warnings=tuple(audit_split(record)))


def _hash_slices(
    master_dir: Path, parts: Mapping[str, Sequence[SliceRecord]]
) -> dict[str, dict[str, str]]:
    """Hash the image files of each part: equal slices are found under any name."""
    return {
        part: {
            record.file: hashlib.sha256(
                (master_dir / "images" / record.file).read_bytes()
            ).hexdigest()
            for record in chosen
        }
        for part, chosen in parts.items()
    }


def _draw_statistics(folder: Path, parts: Mapping[str, Sequence[SliceRecord]]) -> None:
    draw_bar_charts(
        folder / "statistics.png",
        {
            "slices (image and mask)": {part: len(chosen) for part, chosen in parts.items()},
            "cases": {part: len({r.case for r in chosen}) for part, chosen in parts.items()},
        },
        title=f"{sum(map(len, parts.values())):,} slices",
    )
