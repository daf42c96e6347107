"""``heartseg evaluate --predictions``: label maps of any tool, scored without a model."""

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
from heartseg.cohort.pairing import CaseMaps, Pairing, Suffixes, pair_label_maps
from heartseg.config.schema import Config
from heartseg.errors import BatchError, ConfigError
from heartseg.evaluation.label_convention import describe_mapping, suggest_mapping
from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.report import EVALUATION_FILES, Material, Paper, write_evaluation
from heartseg.evaluation.scores import CaseScores, Scores, collect_scores
from heartseg.evaluation.scoring import score_case
from heartseg.evaluation.summary import Context
from heartseg.exchange.aligned_maps import AlignedMaps, read_aligned
from heartseg.labels import LabelTable
from heartseg.ownership import Outputs, filling
from heartseg.parallel import map_cases, place_for_workers
from heartseg.pictures.case_pictures import OrientedCase, orient_case
from heartseg.progress import Report, silent
from heartseg.scans.intensity import apply_window, find_window
from heartseg.scans.provenance import read_provenance
from heartseg.scans.reading import read_scan
from heartseg.scans.volume import Volume, is_same_grid, sheared_axes_mm

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"
OWNED = Outputs("evaluate --predictions", EVALUATION_FILES)
SHOWN_PERCENTILES = (0.5, 99.5)
"""Window of a scan beside its label maps in the report."""


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
class _Reading:
    """How label maps are read.

    Attributes:
        table: The labels.
        resample: Whether a prediction may lie on another grid.
        mapping: Label of the table by label of the predictions.
    """

    table: LabelTable
    resample: bool
    mapping: Mapping[int, int]


@dataclass(frozen=True)
class _ScoredCase:
    """What came of one case.

    Attributes:
        scores: Its scores.
        label_hash: Fingerprint of its reference.
        warning: What was noticed on the way.
        learned_by: The model that made the prediction, if it learned from this reference.
    """

    scores: CaseScores
    label_hash: str
    warning: str | None = None
    learned_by: str | None = None


def run_scoring(
    config: Config,
    predictions_dir: Path,
    references_dir: Path,
    *,
    endpoints_dir: Path | None = None,
    output_dir: Path | None = None,
    resample: bool = False,
    mapping: Mapping[int, int] | None = None,
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
        mapping: Label of the table by label of the predictions; labels that are not named stay.
        overwrite: Replace an earlier evaluation.
        report: Called after each case.

    Returns:
        The scores and where they are written.

    Raises:
        DataError: If a folder is missing or holds no label map, or no prediction has a reference.
        BatchError: If some cases cannot be scored; the others are, and are written.
    """
    reading = _Reading(config.label_table, resample, mapping or {})
    _check_mapping(reading)
    pairing = _pair(config, predictions_dir, references_dir, endpoints_dir)
    output_dir = output_dir or predictions_dir / EVALUATION
    table_file = config.data.clinical_file
    groups = read_clinical_table(table_file).groups() if table_file else {}
    provenance = {
        "predictions": str(predictions_dir),
        "references": str(references_dir),
        "endpoints": None if endpoints_dir is None else str(endpoints_dir),
        "resampled": resample,
        "label_mapping": {str(k): v for k, v in reading.mapping.items()},
    }
    with filling(output_dir, OWNED, overwrite=overwrite):
        done, problems = _score_pairs(config, pairing, reading, report)
        scores = collect_scores(
            [case.scores for case in done.values()],
            config.label_table,
            tolerance_mm=config.evaluate.tolerance_mm,
        )
        warnings = _find_warnings(scores, pairing, done, with_endpoints=endpoints_dir is not None)
        for warning in warnings:
            logger.warning("%s", warning)
        context = Context(
            warnings=(*warnings, *problems),
            provenance=provenance,
            unpaired_predictions=pairing.unpaired,
            problems=tuple(problems),
            groups=groups,
            num_resamples=config.evaluate.num_bootstrap,
            seed=config.evaluate.seed,
        )
        files_of = {case.case: case for case in pairing.cases}
        material = Material(read_view=lambda case: _read_view(files_of[case], reading))
        paper = Paper(config.evaluate.table_measures, config.evaluate.figures)
        summary = write_evaluation(output_dir, scores, context, material, paper=paper)
    if problems:
        raise BatchError(
            f"{len(problems)} problems; {len(done)} cases are scored, see {output_dir}", problems
        )
    return ScoringResult(output_dir, scores, summary)


def _score_pairs(
    config: Config, pairing: Pairing, reading: _Reading, report: Report
) -> tuple[dict[str, _ScoredCase], list[str]]:
    """Score every case; return those by name, and one message per case that cannot be scored.

    Raises:
        BatchError: If no case can be scored.
    """
    outcomes = map_cases(
        partial(_score_files, reading=reading, tolerance_mm=config.evaluate.tolerance_mm),
        pairing.cases,
        jobs=config.parallel.jobs,
        backend=config.parallel.backend,
        address=config.parallel.address,
        report=report,
        describe=lambda case: case.case,
    )
    done = {o.item.case: o.result for o in outcomes if o.result is not None}
    problems = [*pairing.problems, *(o.problem for o in outcomes if o.problem is not None)]
    if not done:
        raise BatchError("no case could be scored", problems)
    return done, problems


def _check_mapping(reading: _Reading) -> None:
    """Make sure that a mapping leads to labels of the table.

    Raises:
        ConfigError: If it does not.
    """
    most = reading.table.num_classes - 1
    unknown = sorted({meant for meant in reading.mapping.values() if not 0 <= meant <= most})
    if unknown:
        raise ConfigError(
            f"--map: expected labels 0 to {most} behind the equals sign, found "
            f"{', '.join(map(str, unknown))}"
        )


def _pair(
    config: Config, predictions_dir: Path, references_dir: Path, endpoints_dir: Path | None
) -> Pairing:
    backend, data = config.parallel.backend, config.data
    return pair_label_maps(
        place_for_workers(predictions_dir, backend),
        place_for_workers(references_dir, backend),
        endpoints_dir and place_for_workers(endpoints_dir, backend),
        Suffixes(
            data.image_suffix,
            data.label_suffix,
            data.endpoints_suffix,
            masks=tuple(f"_{structure.key}" for structure in config.label_table.foreground),
        ),
    )


def _score_files(case: CaseMaps, *, reading: _Reading, tolerance_mm: float) -> _ScoredCase:
    maps = _read_maps(case, reading)
    reference, warning, maker = maps.reference, None, None
    if maps.prediction is not None:
        maker = read_provenance(maps.prediction.header)
        warning = _check_overlap(case, maps.prediction.voxels, reference)
    pair = LabelPair(
        case.case,
        None if maps.prediction is None else maps.prediction.voxels,
        reference.voxels,
        reference.spacing_mm,
        None if maps.endpoints is None else maps.endpoints.voxels,
        sheared_axes_mm(reference.affine),
    )
    scores = score_case(pair, reading.table, tolerance_mm=tolerance_mm)
    digest = maps.reference_hash
    learned_by = maker.model if maker is not None and maker.has_learned(digest) else None
    return _ScoredCase(scores, digest, warning, learned_by)


def _check_overlap(case: CaseMaps, prediction: NDArray[np.uint8], reference: Volume) -> str | None:
    """Warn of a prediction that says nothing where the reference is."""
    if prediction.any() or not reference.voxels.any():
        return None
    return (
        f"{case.prediction}: holds no label on the grid of {case.reference}; is it empty, or of "
        "another place in the patient?"
    )


def _read_maps(case: CaseMaps, reading: _Reading) -> AlignedMaps:
    return read_aligned(
        case.reference,
        case.prediction,
        case.endpoints,
        reading.table,
        mapping=reading.mapping,
        resample=reading.resample,
    )


def _read_view(case: CaseMaps, reading: _Reading) -> OrientedCase:
    """Read a case for its pictures, over the scan where that lies beside the reference."""
    maps, image = _read_maps(case, reading), None
    reference, prediction = maps.reference, maps.prediction
    scan = None if case.image is None else read_scan(case.image)
    if scan is not None and is_same_grid(scan, reference):
        limits = find_window(scan.voxels, "percentile", SHOWN_PERCENTILES)
        image = np.clip(apply_window(scan.voxels, limits), 0, 1)
    return orient_case(
        case.case,
        None if prediction is None else prediction.voxels,
        reference.voxels,
        affine=reference.affine,
        image=image,
    )


def _find_warnings(
    scores: Scores, pairing: Pairing, done: Mapping[str, _ScoredCase], *, with_endpoints: bool
) -> list[str]:
    warnings = find_duplicates({name: case.label_hash for name, case in done.items()})
    learned = {name: case.learned_by for name, case in done.items() if case.learned_by}
    if learned:
        warnings.append(
            f"LEAKAGE: {len(learned)} of {len(done)} predictions were made by a model that learned "
            f"from the reference itself ({', '.join(sorted(set(learned.values())))}): "
            f"{_list(list(learned))}. These scores say nothing about new patients."
        )
    warnings += [case.warning for case in done.values() if case.warning is not None]
    mapping = suggest_mapping([c.confusion for c in scores.cases if c.has_prediction])
    if mapping:
        warnings.append(describe_mapping(mapping, scores.table))
    if scores.missing_predictions:
        warnings.append(
            f"{len(scores.missing_predictions)} of {len(scores.cases)} cases have no prediction "
            f"and count as missed: {_list(scores.missing_predictions)}."
        )
    if pairing.unpaired:
        warnings.append(f"These predictions have no reference: {_list(pairing.unpaired)}.")
    if pairing.left_out:
        warnings.append(
            "These files are left out, since another file of their case is named like a label "
            f"map: {_list([file.name for file in pairing.left_out])}."
        )
    without = [case.case for case in pairing.cases if case.endpoints is None]
    if with_endpoints and without:
        warnings.append(
            "These cases have no endpoint map and take no part in the scope required: "
            f"{_list(without)}."
        )
    return warnings


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
