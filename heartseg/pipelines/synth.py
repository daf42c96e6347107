"""``heartseg synth``: phantom patients as NIfTI files, with the names and layout of HVSMR-2.0."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heartseg.errors import BatchError, DataError
from heartseg.files import replacing
from heartseg.labels import HVSMR, LabelTable
from heartseg.ownership import Outputs, filling
from heartseg.parallel import map_cases
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.scans.volume import write_image
from heartseg.synthesis.phantom import MIN_SIZE, make_phantom
from heartseg.synthesis.phantom_labels import check_table, store_labels
from heartseg.synthesis.phantom_plan import Category

CLINICAL_FILE = "hvsmr_clinical.csv"
_OWNED = Outputs(
    "synth",
    ("pat*_cropped_norm.nii.gz", "pat*_cropped_seg*.nii.gz", CLINICAL_FILE),
    # Real scans have the same names.
    known_by_name=False,
)


@dataclass(frozen=True)
class _Job:
    output_dir: Path
    seed: int
    patient: int
    size: int
    table: LabelTable

    def __str__(self) -> str:
        return f"pat{self.patient}"


@dataclass(frozen=True)
class _Row:
    """One line of the clinical table."""

    patient: int
    age_years: int
    category: Category
    single_ventricle: bool
    common_atrium: bool


def run_synth(
    output_dir: Path,
    *,
    patients: int,
    size: int,
    seed: int,
    overwrite: bool,
    table: LabelTable = HVSMR,
    jobs: int = -1,
    report: Report = silent,
) -> None:
    """Write phantom patients and their clinical table.

    The files of patient k of a seed are the same, byte for byte, for any number of patients and of
    processes.

    Args:
        output_dir: Folder for ``patN_cropped_norm.nii.gz``, ``patN_cropped_seg.nii.gz``,
            ``patN_cropped_seg_endpoints.nii.gz`` and ``hvsmr_clinical.csv``.
        patients: Number of patients, at least 1; numbered from 0.
        size: Voxels along the longest axis, at least 32.
        seed: Seed of the cohort.
        overwrite: Whether phantoms in the folder are replaced.
        table: The structures that are labelled, in their source values.
        jobs: Number of processes; -1 is one per core.
        report: Called after each patient.

    Raises:
        DataError: If an argument is out of range, phantoms lack a structure of the table, or the
            folder is not empty and ``overwrite`` is not set, or it holds real scans.
        BatchError: If some files could not be written.
    """
    if patients < 1 or size < MIN_SIZE or seed < 0:
        raise DataError(
            f"synth: expected patients >= 1, size >= {MIN_SIZE} and seed >= 0, got patients "
            f"{patients}, size {size}, seed {seed}"
        )
    check_table(table)
    _check_only_phantoms(output_dir)
    with filling(output_dir, _OWNED, overwrite=overwrite):
        work = [_Job(output_dir, seed, patient, size, table) for patient in range(patients)]
        outcomes = map_cases(_write_patient, work, jobs=jobs, report=report)
        problems = [outcome.problem for outcome in outcomes if outcome.problem]
        if problems:
            raise BatchError(
                f"{len(problems)} of {counted(patients, 'phantom')} could not be written", problems
            )
        _write_clinical_table(
            output_dir / CLINICAL_FILE, [outcome.result for outcome in outcomes if outcome.result]
        )


def _check_only_phantoms(output_dir: Path) -> None:
    """Refuse a folder of real scans, whose files have the same names.

    Raises:
        DataError: If the folder is one.
    """
    technical = output_dir / "hvsmr_technical.csv"
    if technical.exists():
        raise DataError(
            f"{output_dir}: holds {technical.name}, so it looks like the real HVSMR-2.0 data; "
            "phantoms have the same file names and would replace them. Choose another folder"
        )


def _write_patient(job: _Job) -> _Row:
    phantom = make_phantom(job.seed, job.patient, size=job.size)
    stem = f"pat{job.patient}_cropped"
    for name, voxels in (
        (f"{stem}_norm.nii.gz", phantom.image),
        (f"{stem}_seg.nii.gz", store_labels(phantom.labels, phantom.myocardium, job.table)),
        (f"{stem}_seg_endpoints.nii.gz", store_labels(phantom.endpoints, None, job.table)),
    ):
        write_image(job.output_dir / name, np.asarray(voxels), affine=phantom.affine)
    return _Row(
        job.patient,
        phantom.age_years,
        phantom.category,
        single_ventricle=phantom.missing == "RV",
        common_atrium=phantom.missing == "RA",
    )


def _write_clinical_table(file: Path, rows: list[_Row]) -> None:
    with (
        replacing(file) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["Pat", "Age", "Category", "SingleVentricle", "CommonAtrium"])
        for row in rows:
            marks = ["X" if mark else "" for mark in (row.single_ventricle, row.common_atrium)]
            table.writerow([row.patient, row.age_years, row.category, *marks])
