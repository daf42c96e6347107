"""The test cases of a split, and where their volumes or prepared slices are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartseg.cohort.cases import CaseFiles
from heartseg.cohort.split_record import PARTS, SPLIT, SplitRecord, read_split_record
from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.files import read_json
from heartseg.labels import LabelTable
from heartseg.parallel import place_for_workers
from heartseg.runs.source_data import find_source
from heartseg.slices.manifest import MANIFEST, SliceRecord, read_manifest
from heartseg.slices.prepared import read_prepared_state


@dataclass(frozen=True)
class HeldOut:
    """The test cases, and where their volumes or slices are.

    Attributes:
        cases: Their names.
        sources: Scan and label map of each case that has them.
        endpoints: Endpoint map of each case that has one.
        records: Prepared slices of each case; read only if a case has no scan.
        grids: Shape and affine of each prepared case.
        master_dir: Where the prepared slices are.
        table: The label table, with the source values of the data set.
    """

    cases: Sequence[str]
    sources: Mapping[str, CaseFiles]
    endpoints: Mapping[str, Path]
    records: Mapping[str, Sequence[SliceRecord]]
    grids: Mapping[str, Any]
    master_dir: Path
    table: LabelTable


def find_split(config: Config) -> SplitRecord:
    """Return the parts of the split: of the lists in the configuration, else of the one on disk.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    lists = config.split
    if lists.train_cases is not None:
        parts = (lists.train_cases, lists.valid_cases or (), lists.test_cases or ())
        return SplitRecord(dict(zip(PARTS, parts, strict=True)))
    file = config.dataset_dir / SPLIT
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; run `heartseg split` first, or name the cases in "
            "split.train_cases, valid_cases and test_cases"
        )
    return read_split_record(file)


def find_splits(config: Config) -> list[SplitRecord]:
    """Return every fold of the split on disk, or the one split; none if there is none.

    Raises:
        DataError: If it is damaged.
    """
    folder = config.data.dataset_dir
    if config.split.train_cases is not None:
        return [find_split(config)]
    if not (folder / SPLIT).is_file():
        return []
    # The record of one split holds a number here, the overview of all folds a list.
    folds = read_json(folder / SPLIT).get("folds")
    count = len(folds) if isinstance(folds, list) else 0
    folders = [folder / f"fold_{fold}" for fold in range(count)] or [folder]
    return [read_split_record(each / SPLIT) for each in folders]


def find_held_out(config: Config, split: SplitRecord) -> HeldOut:
    """Find the files of the test cases.

    Raises:
        DataError: If there is no test case, or neither scans nor prepared slices.
    """
    cases = split.cases["test"]
    if not cases:
        raise DataError(
            f"{config.dataset_dir / SPLIT}: the test part is empty; raise the number of cases, or "
            "lower split.train_fraction and split.valid_fraction"
        )
    data = config.data
    sources: Mapping[str, CaseFiles] = {}
    endpoints: Mapping[str, Path] = {}
    table = config.label_table
    if data.source_dir.is_dir():
        found = find_source(config)
        sources = {case.name: case for case in found.cases}
        endpoints, table = found.endpoints, found.table
    records: dict[str, list[SliceRecord]] = {}
    grids: Mapping[str, Any] = {}
    if not set(cases) <= sources.keys():
        for record in read_manifest(data.master_dir / MANIFEST):
            records.setdefault(record.case, []).append(record)
        state = read_prepared_state(data.master_dir)
        grids = {} if state is None else state.grids
    master_dir = place_for_workers(data.master_dir, config.parallel.backend)
    return HeldOut(cases, sources, endpoints, records, grids, master_dir, table)
