"""``heartseg study``: data prepared, folds trained and tested, all patients scored."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartseg.config.loading import write_config
from heartseg.config.schema import Config
from heartseg.errors import BatchError
from heartseg.files import logging_once
from heartseg.lock import locked
from heartseg.ownership import begin_record, claim_folder, finish_record
from heartseg.pipelines.prepare import is_prepared, run_prepare
from heartseg.pipelines.split import run_split
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.study.plan import (
    Study,
    check_same_study,
    has_slices_only,
    is_evaluated,
    is_split,
    is_trained,
    plan_study,
)
from heartseg.study.pooled import pool_scores
from heartseg.study.progress import watched
from heartseg.study.workers import find_places, run_folds_here, run_folds_on_cluster
from heartseg.surroundings import check_backend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study_dir: Its folder, which ``infer`` takes as the ensemble of the folds.
        output_dir: Where the scores of all patients are.
        summary: The content of ``summary.json``.
    """

    study_dir: Path
    output_dir: Path
    summary: Mapping[str, Any]


@logging_once()
def run_study(config: Config, *, overwrite: bool = False, report: Report = silent) -> StudyResult:
    """Prepare, divide into folds by patient, train and test each fold, and pool the scores.

    What is done already is not done again: after an interruption of any kind the same call goes on,
    and finds the same scores.

    Args:
        config: Uses all sections; ``run_dir`` becomes the folder of the study.
        overwrite: Begin anew, in place of the study in the folder.
        report: Told after each case that is prepared, and as the folds proceed.

    Returns:
        The scores of all patients, each by the model of the fold that has not seen it.

    Raises:
        ConfigError: If the configuration fits no study, or another one than the folder holds.
        DataError: If the data is missing or broken, or the folder holds something else.
        BatchError: If a fold fails, or a patient cannot be scored; all others are done.
    """
    check_backend()
    study = plan_study(config)
    layout = study.layout
    if not overwrite:
        check_same_study(study)
    with locked(layout.study_dir):
        if overwrite or not layout.record.is_file():
            claim_folder(layout.study_dir, layout.outputs, overwrite=overwrite)
        begin_record(layout.study_dir, layout.outputs)
        write_config(study.config, layout.config)
        layout.write_record(len(study.folds))
        _prepare(study, report)
        if not is_split(study):
            run_split(study.config, report=report)
        problems = _run_folds(study, report)
        if problems:
            raise BatchError(
                f"{len(problems)} of {len(study.folds)} folds failed; run the command again, "
                "which does what is missing",
                problems,
            )
        pooled = pool_scores(study)
        finish_record(layout.study_dir, layout.outputs)
    if pooled.problems:
        raise BatchError(
            f"{counted(len(pooled.problems), 'patient')} could not be scored (the scores of the "
            f"others are in {pooled.output_dir})",
            pooled.problems,
        )
    return StudyResult(layout.study_dir, pooled.output_dir, pooled.summary)


def _prepare(study: Study, report: Report) -> None:
    """Prepare the slices that the folds are drawn from, unless they are there."""
    if is_split(study):
        return
    if not has_slices_only(study) and not is_prepared(study.config):
        # Does only what is missing, and refuses slices that were made in another way.
        run_prepare(study.config, report=report)


def _run_folds(study: Study, report: Report) -> list[str]:
    """Run the folds that are not done; return one message per fold that failed."""
    folds = [number for number in study.folds if not _is_done(study, number)]
    if not folds:
        return []
    on_cluster = study.config.parallel.backend == "dask"
    places = [{}] if on_cluster else find_places(study.config)
    at_once = len(folds) if on_cluster else min(len(places), len(folds))
    with watched(study, report, at_once=at_once):
        if on_cluster:
            return run_folds_on_cluster(study, folds)
        return run_folds_here(study, folds, places[:at_once])


def _is_done(study: Study, number: int) -> bool:
    run_dir = study.layout.fold(number).run_dir
    return is_trained(run_dir) and is_evaluated(run_dir)
