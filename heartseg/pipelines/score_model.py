"""``heartseg evaluate CONFIG``: the test cases of a run, predicted and scored on their own grid."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from heartseg.cohort.cases import CaseFiles, find_cases, find_volumes
from heartseg.cohort.clinical import read_groups
from heartseg.cohort.split_record import SPLIT, SplitRecord, audit_split, read_split_record
from heartseg.config.loading import dump_config
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.evaluation.report import Material, write_evaluation
from heartseg.evaluation.scoring import CaseScores, LabelPair, collect_scores, score_case
from heartseg.evaluation.summary import Context
from heartseg.files import filling, read_json, remove_unfinished, replacing
from heartseg.hashing import hash_labels
from heartseg.inference.segmenter import Segmenter, SliceSegmenter
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.modelfile.description import ModelDescription
from heartseg.parallel import map_cases, place_for_workers
from heartseg.pictures.case_views import CaseView, build_view
from heartseg.progress import Report, silent
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.scans.geometry import SliceLayout
from heartseg.scans.intensity import apply_window, find_window
from heartseg.scans.volume import (
    check_same_grid,
    read_image,
    read_label_map,
    spacing_of,
    write_label_map,
)
from heartseg.slices.manifest import MANIFEST, PREPARE_STATE, SliceRecord, read_manifest
from heartseg.slices.store import read_gray, read_mask

logger = logging.getLogger(__name__)

OWNED = ("*.csv", "*.json", "*.html", "predictions/*.nii.gz")


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
class _TestSet:
    """The test cases, and where their volumes or slices are."""

    cases: Sequence[str]
    sources: Mapping[str, CaseFiles]
    endpoints: Mapping[str, Path]
    records: Mapping[str, Sequence[SliceRecord]]
    grids: Mapping[str, Any]
    master_dir: Path


@dataclass(frozen=True)
class _Scored:
    """What came of one test case.

    Attributes:
        scores: Its scores.
        sha256: Hash of its reference, if that was read from the source volume.
        warning: What was noticed on the way.
    """

    scores: CaseScores
    sha256: str | None = None
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
    layout = RunLayout(config.run_dir)
    model_file = layout.require_best()
    description = ModelDescription.from_metadata(read_metadata(model_file), source=str(model_file))
    split = read_split_record(config.dataset_dir / SPLIT)
    test_set = _find_test_set(config, split)
    output_dir = output_dir or layout.evaluation
    with filling(output_dir, OWNED, overwrite=overwrite):
        model = load_model(model_file)
        published = _measure_published(model, description, test_set, config)
        # As the published program writes it: no header, four digits.
        lines = [f"{name},{value:.4f}\n" for name, value in published.items()]
        with replacing(output_dir / "evaluation.csv") as temporary:
            temporary.write_text("".join(lines), encoding="utf-8")
        done, problems = _score_cases(config, test_set, model, output_dir, report)
        scores = collect_scores(
            [case.scores for case in done.values()],
            description.table,
            tolerance_mm=config.evaluate.tolerance_mm,
        )
        hashes = {name: case.sha256 for name, case in done.items() if case.sha256 is not None}
        warnings = audit_split(split, test_hashes=hashes)
        warnings += [case.warning for case in done.values() if case.warning is not None]
        for warning in warnings:
            logger.warning("%s", warning)
        context = Context(
            warnings=tuple(warnings),
            provenance={"model": str(model_file), "published_measures": dict(published)},
            problems=tuple(problems),
            groups=read_groups(config.data.clinical_file) if config.data.clinical_file else {},
            num_resamples=config.evaluate.num_bootstrap,
            seed=config.evaluate.seed,
        )
        material = _gather_material(config, test_set, description, output_dir)
        summary = write_evaluation(output_dir, scores, context, material)
    if problems:
        raise BatchError(
            f"{len(problems)} of {len(test_set.cases)} test cases could not be scored "
            f"(the scores of the others are in {output_dir})",
            problems,
        )
    return EvaluationResult(output_dir, published, summary)


def _find_test_set(config: Config, split: SplitRecord) -> _TestSet:
    cases = split.cases["test"]
    if not cases:
        raise DataError(f"{config.dataset_dir / SPLIT}: the test part is empty")
    data, backend = config.data, config.parallel.backend
    source_dir = place_for_workers(data.source_dir, backend)
    sources: dict[str, CaseFiles] = {}
    endpoints: dict[str, Path] = {}
    if source_dir.is_dir():
        found, _ = find_cases(
            source_dir, image_suffix=data.image_suffix, label_suffix=data.label_suffix
        )
        sources = {case.name: case for case in found}
        endpoints = {
            name: files[0]
            for name, files in find_volumes(source_dir, data.endpoints_suffix).items()
        }
    records: dict[str, list[SliceRecord]] = {}
    grids: Mapping[str, Any] = {}
    if not set(cases) <= sources.keys():
        for record in read_manifest(data.master_dir / MANIFEST):
            records.setdefault(record.case, []).append(record)
        grids = read_json(data.master_dir / PREPARE_STATE).get("grids", {})
    return _TestSet(
        cases, sources, endpoints, records, grids, place_for_workers(data.master_dir, backend)
    )


def _gather_material(
    config: Config, test_set: _TestSet, model: ModelDescription, output_dir: Path
) -> Material:
    """Collect what the report shows beside scores: pictures, curves, settings."""

    def read_view(case: str) -> CaseView | None:
        if case not in test_set.sources:
            return None
        files = test_set.sources[case]
        image = read_image(files.image_file)
        recipe = model.recipe
        limits = find_window(image.voxels, recipe.window, recipe.window_range)
        return build_view(
            case,
            read_label_map(_prediction_file(output_dir, case), model.table).voxels,
            read_label_map(files.label_file, model.table).voxels,
            affine=image.affine,
            image=np.clip(apply_window(image.voxels, limits), 0, 1),
        )

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


def _prediction_file(output_dir: Path, case: str) -> Path:
    return output_dir / "predictions" / f"{case}_seg.nii.gz"


def _measure_published(
    model: keras.Model, description: ModelDescription, test_set: _TestSet, config: Config
) -> Mapping[str, float]:
    """Return the published figures: over slices, or over hearts on the network's grid."""
    kind = find_kind(description.kind)
    missing = [case for case in test_set.cases if case not in test_set.sources]
    if missing and not kind.takes_pictures:
        raise DataError(
            f"{config.data.source_dir}: holds no image and label map of {', '.join(missing)}, "
            "which a network of whole hearts needs"
        )
    files = [test_set.sources[case] for case in test_set.cases if case in test_set.sources]
    return kind.measure_published(model, description, files, config)


def _score_cases(
    config: Config, test_set: _TestSet, model: keras.Model, output_dir: Path, report: Report
) -> tuple[dict[str, _Scored], list[str]]:
    """Predict and score each case; return those by name, and one message a case that failed.

    One after the other here, where the network uses all cores, or one on each worker of a cluster.
    """
    known: dict[str, Any] = {
        "test_set": test_set,
        "output_dir": place_for_workers(output_dir, config.parallel.backend),
        "tolerance_mm": config.evaluate.tolerance_mm,
    }
    if config.parallel.backend == "dask":
        config = config.model_copy(update={"run_dir": config.run_dir.absolute()})
        stamp = (RunLayout(config.run_dir).best).stat().st_mtime_ns
        work = partial(_score_on_worker, config=config, stamp=stamp, **known)
    else:
        work = partial(_score_case, segmenter=_build_segmenter(config, model), **known)
    outcomes = map_cases(
        work,
        test_set.cases,
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


def _score_on_worker(case: str, *, config: Config, stamp: int, **known: Any) -> _Scored:  # noqa: ANN401
    return _score_case(case, segmenter=_load_segmenter_once(config, stamp), **known)


@lru_cache(maxsize=1)
def _load_segmenter_once(config: Config, _stamp: int) -> Segmenter:
    return _build_segmenter(config, load_model(RunLayout(config.run_dir).best))


def _build_segmenter(config: Config, model: keras.Model) -> Segmenter:
    model_file = RunLayout(config.run_dir).best
    description = ModelDescription.from_metadata(read_metadata(model_file), source=str(model_file))
    return find_kind(description.kind).build_segmenter(model, description, config)


def _score_case(
    case: str,
    *,
    test_set: _TestSet,
    segmenter: Segmenter,
    output_dir: Path,
    tolerance_mm: float,
) -> _Scored:
    if isinstance(segmenter, SliceSegmenter) and case not in test_set.sources:
        pair, warning = _predict_prepared(test_set, case, segmenter)
        digest = None
    else:
        pair, digest = _predict_source(test_set, case, segmenter, output_dir)
        warning = None
    scores = score_case(pair, segmenter.model.table, tolerance_mm=tolerance_mm)
    return _Scored(scores, digest, warning)


def _predict_source(
    test_set: _TestSet, case: str, segmenter: Segmenter, output_dir: Path
) -> tuple[LabelPair, str]:
    """Predict a case from its source volume, keep the prediction, and hash the reference."""
    files, table = test_set.sources[case], segmenter.model.table
    image = read_image(files.image_file)
    reference = read_label_map(files.label_file, table)
    check_same_grid(image, reference, names=(str(files.image_file), str(files.label_file)))
    labels = segmenter.segment(image).labels
    write_label_map(_prediction_file(output_dir, case), labels, like=image, table=table)
    endpoints = None
    if case in test_set.endpoints:
        zones = read_label_map(test_set.endpoints[case], table)
        check_same_grid(
            zones, reference, names=(str(test_set.endpoints[case]), str(files.label_file))
        )
        endpoints = zones.voxels
    pair = LabelPair(case, labels, reference.voxels, reference.spacing_mm, endpoints)
    return pair, hash_labels(reference.voxels, reference.spacing_mm)


def _predict_prepared(
    test_set: _TestSet, case: str, segmenter: SliceSegmenter
) -> tuple[LabelPair, str]:
    """Predict a case whose source volume is gone, from its prepared slices, with a warning."""
    records, grid_facts = test_set.records.get(case), test_set.grids.get(case)
    if not records or not grid_facts:
        raise DataError(f"{case}: neither its source volume nor its prepared slices are there")
    recipe, table = segmenter.model.recipe, segmenter.model.table
    affine = np.array(grid_facts["affine"], np.float64)
    layout = SliceLayout.from_affine(affine, recipe.plane)
    prediction, reference = (np.zeros(grid_facts["shape"], np.uint8) for _ in range(2))
    images = [read_gray(test_set.master_dir / "images" / r.file) for r in records]
    answers = segmenter.segment_slices(images)
    for record, answer in zip(records, answers, strict=True):
        grid = recipe.grid(
            (record.height, record.width), (record.spacing_row_mm, record.spacing_col_mm)
        )
        mask_file = test_set.master_dir / "masks" / record.file
        mask = read_mask(mask_file, table)
        layout.stack(prediction)[record.slice] = grid.labels_to_native(answer)
        layout.stack(reference)[record.slice] = grid.labels_to_native(mask)
    warning = (
        f"{case}: the source volume is not in data.source_dir; scored from {len(records)} "
        f"prepared slices of {len(layout.stack(reference))}, so false alarms in the others do "
        "not count"
    )
    return LabelPair(case, prediction, reference, spacing_of(affine)), warning
