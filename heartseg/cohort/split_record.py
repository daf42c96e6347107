"""The record of a split, ``split.json``: which cases are in which part, and how they were drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartseg.cohort.leakage import SLICE_SPLIT, PartContents, find_leaks
from heartseg.cohort.partition import Partition
from heartseg.errors import DataError
from heartseg.files import natural_key, read_json, write_json

SPLIT = "split.json"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class SplitRecord:
    """Which cases are in which part of a split.

    Attributes:
        cases: Names of the cases, by part.
        by: ``patient``, or ``slice``: then a case may be in several parts.
        seed: Seed of the shuffling; None if the cases were listed by hand.
        train_fraction: Requested fraction of the training part.
        valid_fraction: Requested fraction of the validation part.
        stratified: Whether the categories of the cases were spread evenly.
        folds: Number of folds; 0 for one split.
        fold: Which of them this is.
        slices: Number of slices, by part.
        case_hashes: Hash of the label map by case, as far as known.
        image_hashes: Hash of the scan by case, as far as known.
        slice_hashes: For each part, the hash of each slice by file name.
        recipe: How the slices were made, as recorded by ``prepare``; empty if unknown.
        descending: Cases whose slices are numbered toward left, posterior or inferior; None if
            that is not known, as of splits of version 0.1.
        warnings: What readers of the scores must know.
    """

    cases: Mapping[str, tuple[str, ...]]
    by: str = "patient"
    seed: int | None = None
    train_fraction: float | None = None
    valid_fraction: float | None = None
    stratified: bool = False
    folds: int = 0
    fold: int = 0
    slices: Mapping[str, int] = field(default_factory=dict)
    case_hashes: Mapping[str, str] = field(default_factory=dict)
    image_hashes: Mapping[str, str] = field(default_factory=dict)
    slice_hashes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    descending: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()

    def contents(self, part: str) -> PartContents:
        """Return the names and hashes of a part, for the search for leaks."""
        names = self.cases.get(part, ())
        return PartContents(
            names,
            {case: self.case_hashes[case] for case in names if case in self.case_hashes},
            self.slice_hashes.get(part, {}),
            {case: self.image_hashes[case] for case in names if case in self.image_hashes},
        )


def audit_split(record: SplitRecord, *, test_hashes: Mapping[str, str] | None = None) -> list[str]:
    """Look for test patients in the training and validation parts of a split.

    Args:
        record: The split.
        test_hashes: Hashes of the label maps that are scored now, by case; they may differ from
            those that were split.

    Returns:
        One warning per finding; empty if the split is clean as far as names and hashes show.
    """
    found = test_hashes or {}
    test = record.contents("test")
    test = PartContents(
        sorted({*test.cases, *found}, key=natural_key),
        {**test.case_hashes, **found},
        test.slice_hashes,
        test.image_hashes,
    )
    warnings = [SLICE_SPLIT] if record.by == "slice" else []
    for part, title in (("train", "training"), ("valid", "validation")):
        warnings += find_leaks(record.contents(part), test, part=f"{title} part")
    return warnings


def read_split_record(file: Path) -> SplitRecord:
    """Read the record of a split.

    Raises:
        DataError: If the file is missing or is not the record of a split into parts.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file; run `heartseg split` first")
    content = read_json(file)
    if "cases" not in content:
        hint = "; choose one of its folds by split.folds and split.fold" * ("folds" in content)
        raise DataError(f"{file}: expected the cases of each part, found none{hint}")
    try:
        return _from_json(content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not the record of a split ({error})") from error


def write_split_record(file: Path, record: SplitRecord) -> None:
    """Write the record of a split."""
    write_json(
        file,
        {
            "by": record.by,
            "seed": record.seed,
            "train_fraction": record.train_fraction,
            "valid_fraction": record.valid_fraction,
            "stratified": record.stratified,
            "folds": record.folds,
            "fold": record.fold,
            "counts": {
                part: {"cases": len(cases), "slices": record.slices.get(part, 0)}
                for part, cases in record.cases.items()
            },
            "cases": {part: list(cases) for part, cases in record.cases.items()},
            "recipe": dict(record.recipe),
            "descending": None if record.descending is None else list(record.descending),
            "hashes": {
                "cases": dict(record.case_hashes),
                "scans": dict(record.image_hashes),
                "slices": record.slice_hashes,
            },
            "warnings": list(record.warnings),
        },
    )


def write_folds(file: Path, partitions: tuple[Partition, ...], warnings: tuple[str, ...]) -> None:
    """Write the overview of all folds, which lies beside their folders."""
    write_json(
        file,
        {"folds": [partition.parts() for partition in partitions], "warnings": list(warnings)},
    )


def _from_json(content: Mapping[str, Any]) -> SplitRecord:
    hashes, counts = content.get("hashes", {}), content.get("counts", {})
    descending = content.get("descending")
    return SplitRecord(
        cases={part: tuple(map(str, content["cases"].get(part, ()))) for part in PARTS},
        by=str(content.get("by", "patient")),
        seed=content.get("seed"),
        train_fraction=content.get("train_fraction"),
        valid_fraction=content.get("valid_fraction"),
        stratified=bool(content.get("stratified", False)),
        folds=int(content.get("folds", 0)),
        fold=int(content.get("fold", 0)),
        slices={part: int(entry["slices"]) for part, entry in counts.items()},
        case_hashes=dict(hashes.get("cases", {})),
        image_hashes=dict(hashes.get("scans", {})),
        recipe=dict(content.get("recipe", {})),
        descending=None if descending is None else tuple(map(str, descending)),
        slice_hashes={part: dict(of) for part, of in hashes.get("slices", {}).items()},
        warnings=tuple(content.get("warnings", ())),
    )
