"""``heartseg split``: prepared slices into training, validation and test parts."""

import hashlib
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartseg.cohort.cases import read_categories
from heartseg.cohort.leakage import audit_split
from heartseg.cohort.partition import Partition, check_disjoint, draw_folds, draw_partition
from heartseg.config.schema import Config, SplitConfig
from heartseg.errors import DataError
from heartseg.files import filling, natural_key, read_json, write_json
from heartseg.pictures.charts import draw_bar_charts
from heartseg.progress import Report, silent
from heartseg.slices.manifest import MANIFEST, PREPARE_STATE, SliceRecord, read_manifest

logger = logging.getLogger(__name__)

SPLIT = "split.json"
OWNED = ("train", "valid", "test", "fold_*", SPLIT, "statistics.png")


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
    master_dir, dataset_dir = config.data.master_dir, config.data.dataset_dir
    records = read_manifest(master_dir / MANIFEST)
    state_file = master_dir / PREPARE_STATE
    state = read_json(state_file) if state_file.is_file() else {}
    if not state.get("complete", False):
        logger.warning("%s: prepare did not finish; only what is there is split", master_dir)
    hashes: dict[str, str] = state.get("label_sha256", {})
    cases = sorted({record.case for record in records}, key=natural_key)
    strata = read_categories(config.data.clinical_file) if config.data.clinical_file else None
    by_slice = config.split.by == "slice"
    names = [record.file for record in records] if by_slice else cases
    if by_slice and strata:
        strata = {r.file: strata[r.case] for r in records if r.case in strata}
    partitions = _draw(config.split, names, strata)
    if not by_slice:
        for partition in partitions:
            check_disjoint(partition, hashes=hashes)

    slices, warnings = [], []
    with filling(dataset_dir, OWNED, overwrite=overwrite):
        for fold, partition in enumerate(partitions):
            folder = dataset_dir / f"fold_{fold}" if config.split.folds else dataset_dir
            parts = {
                part: [r for r in records if (r.file if by_slice else r.case) in chosen]
                for part, chosen in ((part, set(c)) for part, c in partition.parts().items())
            }
            for done, (part, chosen) in enumerate(parts.items()):
                _fill_part(master_dir, folder / part, chosen)
                report(3 * fold + done + 1, 3 * len(partitions), f"{part}: {len(chosen)} slices")
            summary = _describe(config.split, parts, hashes, fold=fold, strata=strata is not None)
            summary["hashes"]["slices"] = _hash_slices(master_dir, parts)
            summary["warnings"] = audit_split(summary)
            _draw_statistics(folder, parts)
            write_json(folder / SPLIT, summary)
            slices.append({part: len(chosen) for part, chosen in parts.items()})
            warnings += [text for text in summary["warnings"] if text not in warnings]
        if config.split.folds:
            write_json(
                dataset_dir / SPLIT,
                {"folds": [partition.parts() for partition in partitions], "warnings": warnings},
            )
    for warning in warnings:
        logger.warning("%s", warning)
    return SplitResult(dataset_dir, tuple(partitions), tuple(slices), tuple(warnings))


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
    parts: Mapping[str, Sequence[SliceRecord]],
    hashes: Mapping[str, str],
    *,
    fold: int,
    strata: bool,
) -> dict[str, Any]:
    """Return the content of ``split.json``."""
    cases = {
        part: sorted({record.case for record in chosen}, key=natural_key)
        for part, chosen in parts.items()
    }
    everyone = set().union(*cases.values())
    return {
        "by": split.by,
        "seed": split.seed,
        "train_fraction": split.train_fraction,
        "valid_fraction": split.valid_fraction,
        "stratified": strata,
        "folds": split.folds,
        "fold": fold,
        "counts": {
            part: {"cases": len(cases[part]), "slices": len(chosen)}
            for part, chosen in parts.items()
        },
        "cases": cases,
        "hashes": {"cases": {case: hashes[case] for case in hashes if case in everyone}},
    }


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
