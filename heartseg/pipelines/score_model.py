"""``heartseg evaluate CONFIG``: the test cases of a run, predicted and scored on their own grid."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heartseg.cohort.clinical import read_clinical_table
from heartseg.cohort.split_record import SplitRecord, audit_split
from heartseg.cohort.training_record import audit_scores
from heartseg.config.loading import dump_config
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.report import EVALUATION_FILES, Material, Paper, write_evaluation
from heartseg.evaluation.scores import CaseScores, collect_scores
from heartseg.evaluation.scoring import score_case
from heartseg.evaluation.summary import Context
from heartseg.files import read_json, remove_unfinished, replacing
from heartseg.inference.segmenter import Segmenter, SliceSegmenter
from heartseg.labels import LabelTable
from heartseg.modelfile.description import ModelDescription
from heartseg.ownership import Outputs, filling
from heartseg.parallel import map_cases, place_for_workers
from heartseg.pictures.case_pictures import OrientedCase
from heartseg.progress import Report, silent
from heartseg.runs.engines import load_keras
from heartseg.runs.held_out import HeldOut, find_held_out, find_split
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.runs.lineage import read_record
from heartseg.runs.scored_case import prediction_file, read_scored_case
from heartseg.runs.trained import describe_model, load_segmenter_once
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.geometry import SliceLayout
from heartseg.scans.volume import (
    Volume,
    check_same_grid,
    read_image,
    read_label_map,
    sheared_axes_mm,
    spacing_of,
    write_label_map,
)
from heartseg.slices.store import read_gray, read_mask
from heartseg.surroundings import check_backend

if TYPE_CHECKING:
    # Keras takes seconds to load: all that can be wrong is looked at before.
    import keras

logger = logging.getLogger(__name__)

OWNED = Outputs(
    "evaluate",
    ("evaluation.csv", *EVALUATION_FILES, "predictions/*_seg.nii.gz"),
)


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        output_dir: Where its files are.
        published: Loss and ``dice_coef_multiclass`` over the test slices.
        summary: The content of ``summary.json``.
    """

    output_dir: Path
    published: Mapping[str, float]
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class _Scored:
    """What came of one test case.

    Attributes:
        scores: Its scores.
        label_hash: Fingerprint of its reference, if that was read from the source volume.
        image_hash: Fingerprint of its scan.
        warning: What was noticed on the way.
    """

    scores: CaseScores
    label_hash: str | None = None
    image_hash: str | None = None
    warning: str | None = None


def run_evaluation(
    config: Config,
    *,
    output_dir: Path | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> EvaluationResult:
    """Score the best model of a run on the test part of its split.

    The published figures are computed over the test slices. All others are computed per patient
    on the scan's own grid, from a prediction of every slice of the scan, empty ones included.

    Args:
        config: Uses all sections.
        output_dir: Where the files go; None: ``RUN_DIR/evaluation``.
        overwrite: Replace an earlier evaluation.
        report: Told after each case.

    Returns:
        Figures and where they are written.

    Raises:
        DataError: If there is no model, no split, or no test case.
        BatchError: If some test cases cannot be scored; the others are.
    """
    check_backend()
    layout = RunLayout(config.run_dir)
    model_file = layout.require_best()
    description = describe_model(model_file)
    split = find_split(config)
    held_out = find_held_out(config, split)
    description = replace(description, table=_match_tables(description.table, held_out, model_file))
    _check_sources(config, description, held_out)
    output_dir = output_dir or layout.evaluation
    with filling(output_dir, OWNED, overwrite=overwrite):
        model, engine = load_keras(model_file, description, config)
        published = _measure_published(model, description, held_out, config)
        _write_published(output_dir / "evaluation.csv", published)
        kind = find_kind(description.kind)
        segmenter = kind.build_segmenter(engine.compute, description, config)
        done, problems = _score_cases(
            config, held_out, segmenter, description.table, output_dir, report
        )
        scores = collect_scores(
            [case.scores for case in done.values()],
            description.table,
            tolerance_mm=config.evaluate.tolerance_mm,
        )
        warnings = _audit(model_file, split, done)
        warnings += [case.warning for case in done.values() if case.warning is not None]
        for warning in warnings:
            logger.warning("%s", warning)
        table_file = config.data.clinical_file
        context = Context(
            warnings=tuple(warnings),
            provenance={"model": str(model_file), "published_measures": dict(published)},
            problems=tuple(problems),
            groups=read_clinical_table(table_file).groups() if table_file else {},
            num_resamples=config.evaluate.num_bootstrap,
            seed=config.evaluate.seed,
        )
        material = _gather_material(config, held_out, description, output_dir)
        paper = Paper(config.evaluate.table_measures, config.evaluate.figures)
        summary = write_evaluation(output_dir, scores, context, material, paper=paper)
    if problems:
        raise BatchError(
            f"{len(problems)} of {len(held_out.cases)} test cases could not be scored "
            f"(the scores of the others are in {output_dir})",
            problems,
        )
    return EvaluationResult(output_dir, published, summary)


def _match_tables(table: LabelTable, held_out: HeldOut, model_file: Path) -> LabelTable:
    """Return the labels of a model with the values by which the data set stores them.

    Raises:
        DataError: If the model knows other structures than section ``labels`` lists.
    """
    keys, listed = ([s.key for s in structures] for structures in (table, held_out.table))
    if keys != listed:
        raise DataError(
            f"{model_file}: the model knows the labels {', '.join(keys)}, and section labels lists "
            f"{', '.join(listed)}. Evaluate with the labels of the run, which are in "
            f"{model_file.with_name('config.yaml')}"
        )
    return table.stored_as({s.key: s.stored_values for s in held_out.table})


def _write_published(file: Path, published: Mapping[str, float]) -> None:
    """Write the published figures as the published program does: no header, four digits."""
    lines = [f"{name},{value:.4f}\n" for name, value in published.items()]
    with replacing(file) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def _audit(model_file: Path, split: SplitRecord, done: Mapping[str, _Scored]) -> list[str]:
    """Look for scored cases among those that the model has seen."""
    label_hashes = {name: case.label_hash for name, case in done.items() if case.label_hash}
    image_hashes = {name: case.image_hash for name, case in done.items() if case.image_hash}
    record = read_record(model_file)
    if record is None:
        return [
            f"{model_file} does not record the cases that it learned from (it was written by an "
            "earlier version): the scored cases are checked against the split on disk only.",
            *audit_split(split, test_hashes=label_hashes),
        ]
    known = split.contents("test")
    scored = replace(
        known,
        cases=tuple(done),
        case_hashes={**known.case_hashes, **label_hashes},
        image_hashes=image_hashes,
    )
    return audit_scores(record, scored)


def _gather_material(
    config: Config, held_out: HeldOut, model: ModelDescription, output_dir: Path
) -> Material:
    """Collect what the report shows beside scores: pictures, curves, settings."""

    def read_view(case: str) -> OrientedCase | None:
        if case not in held_out.sources:
            return None
        return read_scored_case(case, held_out.sources[case], output_dir, model)

    layout = RunLayout(config.run_dir)
    epochs = read_json(layout.history)["epochs"] if layout.history.is_file() else []
    # One curve a structure would hide the others.
    left_out = {
        "epoch",
        "seconds",
        "learning_rate",
        *(f"dice_{s.key}" for s in model.table.structures),
    }
    names = [n for n in (epochs[0] if epochs else ()) if n.removeprefix("val_") not in left_out]
    details = {"Configuration": dump_config(config)}
    if layout.environment.is_file():
        details["Environment of training"] = layout.environment.read_text(encoding="utf-8")
    return Material(
        read_view=read_view,
        training={
            name: [float("nan") if e[name] is None else e[name] for e in epochs] for name in names
        },
        details=details,
    )


def _check_sources(config: Config, description: ModelDescription, held_out: HeldOut) -> None:
    """Make sure that a network of whole hearts finds the scans of all test cases.

    Raises:
        DataError: If one is missing.
    """
    missing = [case for case in held_out.cases if case not in held_out.sources]
    if missing and not find_kind(description.kind).takes_pictures:
        raise DataError(
            f"{config.data.source_dir}: holds no image and label map of {', '.join(missing)}, "
            "which a network of whole hearts needs"
        )


def _measure_published(
    model: "keras.Model", description: ModelDescription, held_out: HeldOut, config: Config
) -> Mapping[str, float]:
    """Return the published figures: over slices, or over hearts on the network's grid."""
    kind = find_kind(description.kind)
    files = [held_out.sources[case] for case in held_out.cases if case in held_out.sources]
    return kind.measure_published(model, description, files, config)


def _score_cases(
    config: Config,
    held_out: HeldOut,
    segmenter: Segmenter,
    table: LabelTable,
    output_dir: Path,
    report: Report,
) -> tuple[dict[str, _Scored], list[str]]:
    """Predict and score each case; return those by name, and one message a case that failed.

    One after the other here, where the network uses all cores, or one on each worker of a cluster.
    """
    known: dict[str, Any] = {
        "held_out": held_out,
        "table": table,
        "output_dir": place_for_workers(output_dir, config.parallel.backend),
        "tolerance_mm": config.evaluate.tolerance_mm,
    }
    if config.parallel.backend == "dask":
        model_file = RunLayout(config.run_dir).best.absolute()
        work = partial(_score_on_worker, model_file=model_file, config=config, **known)
    else:
        work = partial(_score_case, segmenter=segmenter, **known)
    outcomes = map_cases(
        work,
        held_out.cases,
        jobs=1,
        backend="dask" if config.parallel.backend == "dask" else "loky",
        address=config.parallel.address,
        report=report,
    )
    # What a worker left that was killed while it wrote.
    remove_unfinished(output_dir / "predictions")
    return (
        {outcome.item: outcome.result for outcome in outcomes if outcome.result is not None},
        [outcome.problem for outcome in outcomes if outcome.problem is not None],
    )


def _score_on_worker(
    case: str,
    *,
    model_file: Path,
    config: Config,
    **known: Any,  # noqa: ANN401
) -> _Scored:
    return _score_case(case, segmenter=load_segmenter_once(model_file, config), **known)


def _score_case(
    case: str,
    *,
    held_out: HeldOut,
    segmenter: Segmenter,
    table: LabelTable,
    output_dir: Path,
    tolerance_mm: float,
) -> _Scored:
    if isinstance(segmenter, SliceSegmenter) and case not in held_out.sources:
        pair, warning = _predict_prepared(held_out, case, segmenter)
        return _Scored(score_case(pair, table, tolerance_mm=tolerance_mm), warning=warning)
    image, reference, pair, refusal = _predict_source(held_out, case, segmenter, table, output_dir)
    return _Scored(
        score_case(pair, table, tolerance_mm=tolerance_mm),
        label_hash=fingerprint_labels(reference),
        image_hash=fingerprint_scan(image),
        warning=refusal
        and f"{case}: the model refuses the scan, which counts as missed: {refusal}",
    )


def _predict_source(
    held_out: HeldOut, case: str, segmenter: Segmenter, table: LabelTable, output_dir: Path
) -> tuple[Volume, Volume, LabelPair, str | None]:
    """Predict a case from its source volume and keep the prediction.

    Returns:
        Scan, reference, what is scored, and why the model refuses the scan, if it does.
    """
    files = held_out.sources[case]
    image = read_image(files.image_file)
    reference = read_label_map(files.label_file, table, from_source=True)
    check_same_grid(image, reference, names=(str(files.image_file), str(files.label_file)))
    labels, refusal = None, None
    try:
        labels = segmenter.segment(image).labels
    except DataError as error:
        refusal = str(error)
    else:
        write_label_map(prediction_file(output_dir, case), labels, like=image, table=table)
    endpoints = None
    if case in held_out.endpoints:
        zones = read_label_map(held_out.endpoints[case], table, from_source=True)
        check_same_grid(
            zones, reference, names=(str(held_out.endpoints[case]), str(files.label_file))
        )
        endpoints = zones.voxels
    pair = LabelPair(
        case,
        labels,
        reference.voxels,
        reference.spacing_mm,
        endpoints,
        sheared_axes_mm(reference.affine),
    )
    return image, reference, pair, refusal


def _predict_prepared(
    held_out: HeldOut, case: str, segmenter: SliceSegmenter
) -> tuple[LabelPair, str]:
    """Predict a case whose source volume is gone, from its prepared slices, with a warning."""
    records, grid_facts = held_out.records.get(case), held_out.grids.get(case)
    if not records or not grid_facts:
        raise DataError(f"{case}: neither its source volume nor its prepared slices are there")
    recipe, table = segmenter.model.recipe, segmenter.model.table
    affine = np.array(grid_facts["affine"], np.float64)
    layout = SliceLayout.from_affine(affine, recipe.plane)
    prediction, reference = (np.zeros(grid_facts["shape"], np.uint8) for _ in range(2))
    images = [read_gray(held_out.master_dir / "images" / r.file) for r in records]
    step = 1 if layout.ascending else -1
    answers = segmenter.segment_slices(images[::step], of_one_scan=True)[::step]
    for record, answer in zip(records, answers, strict=True):
        grid = recipe.grid(
            (record.height, record.width), (record.spacing_row_mm, record.spacing_col_mm)
        )
        mask_file = held_out.master_dir / "masks" / record.file
        mask = read_mask(mask_file, table)
        layout.stack(prediction)[record.slice] = grid.labels_to_native(answer)
        layout.stack(reference)[record.slice] = grid.labels_to_native(mask)
    warning = (
        f"{case}: the source volume is not in data.source_dir; scored from {len(records)} "
        f"prepared slices of {len(layout.stack(reference))}, so false alarms in the others do "
        "not count"
    )
    axes_mm = sheared_axes_mm(affine)
    return LabelPair(case, prediction, reference, spacing_of(affine), axes_mm=axes_mm), warning
