"""``heartseg evaluate`` without a model: label maps of any tool scored, and two runs compared."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.clinical import read_clinical_table
from heartseg.cohort.leakage import find_duplicates
from heartseg.config.loading import dump_config
from heartseg.config.schema import Config, DataConfig
from heartseg.errors import BatchError, DataError
from heartseg.evaluation.comparison import (
    Comparison,
    compare_tables,
    read_cases,
    write_comparison,
)
from heartseg.evaluation.report import Material, write_evaluation
from heartseg.evaluation.scoring import CaseScores, LabelPair, Scores, collect_scores, score_case
from heartseg.evaluation.summary import Context
from heartseg.files import filling, image_stem, list_folder, natural_key
from heartseg.hashing import hash_labels
from heartseg.labels import LabelTable
from heartseg.parallel import map_cases, place_for_workers
from heartseg.pictures.case_pictures import OrientedCase, orient_case
from heartseg.progress import Report, silent
from heartseg.scans.nearest import resample_labels
from heartseg.scans.volume import GRID_TOLERANCE, Volume, is_nifti, read_label_map

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"
CASES = "cases.csv"
OWNED = (CASES, "summary.json", "report.html")
COMPARISON_OWNED = ("comparison.csv", "comparison.json")
ENDPOINTS = "_endpoints"
TOOL_SUFFIXES = (ENDPOINTS, "_seg", "_cropped")
"""What tools put behind a case name, beside the suffixes of the configuration."""


@dataclass(frozen=True)
class ScoringResult:
    """What a scoring of label maps found.

    Attributes:
        output_dir: Where its files are.
        scores: The scores of all cases.
        summary: The content of ``summary.json``.
    """

    output_dir: Path
    scores: Scores
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison of two runs found.

    Attributes:
        output_dir: Where its files are; None if it was not written.
        comparison: The tests.
    """

    output_dir: Path | None
    comparison: Comparison


@dataclass(frozen=True)
class _CaseJob:
    """The files of one case that is to be scored."""

    case: str
    prediction_file: Path | None
    reference_file: Path
    endpoints_file: Path | None


def run_scoring(
    config: Config,
    predictions_dir: Path,
    references_dir: Path,
    *,
    endpoints_dir: Path | None = None,
    output_dir: Path | None = None,
    resample: bool = False,
    overwrite: bool = False,
    report: Report = silent,
) -> ScoringResult:
    """Score label maps of any tool against the true ones.

    Files are paired by case name: what is left of a file name without known suffixes. A case
    without a prediction counts as missed.

    Args:
        config: Uses the sections `labels`, `evaluate`, `parallel` and `data` (the suffixes and the
            clinical table).
        predictions_dir: Folder of the predicted label maps.
        references_dir: Folder of the true label maps.
        endpoints_dir: Folder of the endpoint maps, for the scope ``required``.
        output_dir: Where results go; the default is ``PREDICTIONS/evaluation``.
        resample: Bring a prediction on another grid to that of the reference (nearest neighbour)
            rather than refuse it.
        overwrite: Replace an earlier evaluation.
        report: Told after each case.

    Returns:
        The scores and where they are written.

    Raises:
        DataError: If a folder is missing or holds no label map.
        BatchError: If some cases cannot be scored; the others are, and are written.
    """
    jobs, problems, unpaired = _pair_files(
        place_for_workers(predictions_dir, config.parallel.backend),
        place_for_workers(references_dir, config.parallel.backend),
        endpoints_dir and place_for_workers(endpoints_dir, config.parallel.backend),
        config.data,
    )
    output_dir = output_dir or predictions_dir / EVALUATION
    table_file = config.data.clinical_file
    groups = read_clinical_table(table_file).groups() if table_file else {}
    with filling(output_dir, OWNED, overwrite=overwrite):
        outcomes = map_cases(
            partial(
                _score_files,
                table=config.label_table,
                tolerance_mm=config.evaluate.tolerance_mm,
                resample=resample,
            ),
            jobs,
            jobs=config.parallel.jobs,
            backend=config.parallel.backend,
            address=config.parallel.address,
            report=report,
            describe=lambda job: job.case,
        )
        done = [outcome.result for outcome in outcomes if outcome.result is not None]
        problems += [outcome.problem for outcome in outcomes if outcome.problem is not None]
        if not done:
            raise BatchError("no case could be scored", problems)
        scores = collect_scores(
            [case for case, _ in done],
            config.label_table,
            tolerance_mm=config.evaluate.tolerance_mm,
        )
        warnings = _warnings(scores, jobs, unpaired, dict(pair for _, pair in done), endpoints_dir)
        for warning in warnings:
            logger.warning("%s", warning)
        context = Context(
            warnings=(*warnings, *problems),
            provenance={
                "predictions": str(predictions_dir),
                "references": str(references_dir),
                "endpoints": None if endpoints_dir is None else str(endpoints_dir),
                "resampled": resample,
            },
            unpaired_predictions=tuple(unpaired),
            problems=tuple(problems),
            groups=groups,
            num_resamples=config.evaluate.num_bootstrap,
            seed=config.evaluate.seed,
        )
        files_of = {job.case: job for job in jobs}

        def read_view(case: str) -> OrientedCase:
            return _read_view(files_of[case], config.label_table, resample=resample)

        material = Material(read_view=read_view, details={"Configuration": dump_config(config)})
        summary = write_evaluation(output_dir, scores, context, material)
    if problems:
        raise BatchError(
            f"{len(problems)} problems; {len(done)} cases are scored, see {output_dir}", problems
        )
    return ScoringResult(output_dir, scores, summary)


def run_comparison(
    config: Config,
    first: Path,
    second: Path,
    *,
    output_dir: Path | None = None,
    overwrite: bool = False,
) -> ComparisonResult:
    """Compare two evaluations of the same patients.

    Args:
        config: Uses the section `evaluate` (bootstrap).
        first: Run A: a run folder, an evaluation folder, or a ``cases.csv``.
        second: Run B.
        output_dir: Where the tables go; None writes nothing.
        overwrite: Replace an earlier comparison.

    Returns:
        The tests.

    Raises:
        DataError: If a run has no scores or they share no case.
    """
    tables = [read_cases(_find_cases_file(run)) for run in (first, second)]
    comparison = compare_tables(
        *tables, num_resamples=config.evaluate.num_bootstrap, seed=config.evaluate.seed
    )
    for warning in comparison.warnings:
        logger.warning("%s", warning)
    if output_dir is not None:
        with filling(output_dir, COMPARISON_OWNED, overwrite=overwrite):
            write_comparison(output_dir, comparison, names=(str(first), str(second)))
    return ComparisonResult(output_dir, comparison)


def case_name(file: Path, suffixes: Sequence[str]) -> str:
    """Return a file's case name: its stem without any of the suffixes, the longest first.

    ``pat4.nii.gz``, ``pat4_cropped_seg.nii.gz`` and ``pat4_cropped_norm_seg.nii.gz`` are all of
    ``pat4``, given the suffixes of the data set and ``_seg``.
    """
    name = image_stem(file)
    ordered = sorted(filter(None, suffixes), key=len, reverse=True)
    while True:
        suffix = next((s for s in ordered if name.endswith(s) and len(name) > len(s)), None)
        if suffix is None:
            return name
        name = name.removesuffix(suffix)


def _pair_files(
    predictions_dir: Path, references_dir: Path, endpoints_dir: Path | None, data: DataConfig
) -> tuple[list[_CaseJob], list[str], list[str]]:
    """Return the cases to score, problems, and the cases that only have a prediction."""
    suffixes = (data.label_suffix, data.image_suffix, data.endpoints_suffix, *TOOL_SUFFIXES)
    # One folder may hold all kinds of files, as the data set's own does.
    zone_suffixes = (data.endpoints_suffix or ENDPOINTS, ENDPOINTS)
    no_label_maps = (*zone_suffixes, data.image_suffix) if data.image_suffix else zone_suffixes
    problems: list[str] = []

    def by_case(files: Sequence[Path]) -> dict[str, Path | None]:
        return _by_case(files, suffixes, problems)

    references = by_case(_find_maps(references_dir, skip=no_label_maps))
    predictions = by_case(_find_maps(predictions_dir, skip=no_label_maps))
    zones: dict[str, Path | None] = {}
    if endpoints_dir is not None:
        files = _find_maps(endpoints_dir)
        named = [file for file in files if image_stem(file).endswith(zone_suffixes)]
        zones = by_case(named or files)
    jobs = [
        _CaseJob(case, predictions.get(case), reference, zones.get(case))
        for case, reference in references.items()
        # A duplicate is reported already; which of the files is meant cannot be known.
        if reference is not None
        and not (case in predictions and predictions[case] is None)
        and not (case in zones and zones[case] is None)
    ]
    return jobs, problems, [case for case in predictions if case not in references]


def _find_maps(folder: Path, *, skip: tuple[str, ...] = ()) -> list[Path]:
    """List the NIfTI files of a folder but those whose names end in ``skip``."""
    files = [
        file
        for file in list_folder(folder)
        if is_nifti(file)
        and not file.name.startswith(".")
        and not (skip and image_stem(file).endswith(skip))
    ]
    if not files:
        raise DataError(f"{folder}: expected label maps (.nii or .nii.gz), found none")
    return files


def _by_case(
    files: Sequence[Path], suffixes: Sequence[str], problems: list[str]
) -> dict[str, Path | None]:
    """Return the file of each case, in natural order; None where a case has several."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(case_name(file, suffixes), []).append(file)
    for case, several in found.items():
        if len(several) > 1:
            names = ", ".join(file.name for file in several)
            problems.append(f"{several[0].parent}: several files are of the case {case}: {names}")
    return {
        case: found[case][0] if len(found[case]) == 1 else None
        for case in sorted(found, key=natural_key)
    }


def _score_files(
    job: _CaseJob, *, table: LabelTable, tolerance_mm: float, resample: bool
) -> tuple[CaseScores, tuple[str, str]]:
    """Read and score one case; also returns its name and the hash of its reference."""
    pair = _read_pair(job, table, resample=resample)
    digest = hash_labels(pair.reference, pair.spacing_mm)
    return score_case(pair, table, tolerance_mm=tolerance_mm), (job.case, digest)


def _read_pair(job: _CaseJob, table: LabelTable, *, resample: bool) -> LabelPair:
    reference = read_label_map(job.reference_file, table)
    prediction, endpoints = (
        None if file is None else _read_on_grid(file, reference, job, table, resample=resample)
        for file in (job.prediction_file, job.endpoints_file)
    )
    return LabelPair(job.case, prediction, reference.voxels, reference.spacing_mm, endpoints)


def _read_view(job: _CaseJob, table: LabelTable, *, resample: bool) -> OrientedCase:
    reference = read_label_map(job.reference_file, table)
    prediction = None
    if job.prediction_file is not None:
        prediction = _read_on_grid(job.prediction_file, reference, job, table, resample=resample)
    return orient_case(job.case, prediction, reference.voxels, affine=reference.affine)


def _read_on_grid(
    file: Path, reference: Volume, job: _CaseJob, table: LabelTable, *, resample: bool
) -> NDArray[np.uint8]:
    labels = read_label_map(file, table)
    if _same_grid(labels, reference):
        voxels: NDArray[np.uint8] = labels.voxels
        return voxels
    if not resample:
        raise DataError(
            f"{file}: lies on another grid than {job.reference_file}:\n"
            f"    {_describe_grid(labels)}\n    {_describe_grid(reference)}\n"
            "    pass --resample to bring it there by nearest neighbour"
        )
    return resample_labels(
        labels.voxels, labels.affine, to_affine=reference.affine, shape=reference.voxels.shape
    )


def _same_grid(first: Volume, second: Volume) -> bool:
    return first.voxels.shape == second.voxels.shape and np.allclose(
        first.affine, second.affine, rtol=0, atol=GRID_TOLERANCE
    )


def _describe_grid(volume: Volume) -> str:
    rows = [[round(float(value), 4) for value in row] for row in volume.affine[:3]]
    return f"shape {volume.voxels.shape}, affine {rows}"


def _warnings(
    scores: Scores,
    jobs: Sequence[_CaseJob],
    unpaired: Sequence[str],
    hashes: Mapping[str, str],
    endpoints_dir: Path | None,
) -> list[str]:
    warnings = find_duplicates(hashes)
    if scores.missing_predictions:
        warnings.append(
            f"{len(scores.missing_predictions)} of {len(scores.cases)} cases have no prediction "
            f"and count as missed: {', '.join(scores.missing_predictions)}."
        )
    if unpaired:
        warnings.append(f"These predictions have no reference: {', '.join(unpaired)}.")
    without = [job.case for job in jobs if job.endpoints_file is None]
    if endpoints_dir is not None and without:
        warnings.append(
            f"These cases have no endpoint map and take no part in the scope required: "
            f"{', '.join(without)}."
        )
    return warnings


def _find_cases_file(run: Path) -> Path:
    """Return the scores of a run folder, an evaluation folder, or the file itself."""
    if run.is_file():
        return run
    candidates = [run / CASES, run / EVALUATION / CASES]
    for file in candidates:
        if file.is_file():
            return file
    raise DataError(
        f"{run}: expected {CASES} there or in {EVALUATION}/; run `heartseg evaluate` first"
    )
