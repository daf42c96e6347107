"""The scores of all patients of a study, each by the model of the fold that has not seen it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartseg.cohort.clinical import read_clinical_table
from heartseg.config.loading import dump_config
from heartseg.evaluation.reading import WrittenEvaluation, read_evaluation
from heartseg.evaluation.report import EVALUATION_FILES, Material, Paper, write_evaluation
from heartseg.evaluation.scores import collect_scores
from heartseg.evaluation.summary import Context
from heartseg.files import read_json
from heartseg.ownership import Outputs, filling
from heartseg.pictures.case_pictures import OrientedCase
from heartseg.runs.held_out import find_held_out, find_split
from heartseg.runs.scored_case import read_scored_case
from heartseg.runs.trained import describe_model
from heartseg.study.plan import Study

logger = logging.getLogger(__name__)

OWNED = Outputs("study", EVALUATION_FILES)
TITLE = "Out-of-fold scores of a study"


@dataclass(frozen=True)
class PooledScores:
    """The out-of-fold scores of a study.

    Attributes:
        output_dir: Where their files are.
        summary: The content of ``summary.json``.
        problems: One message per patient that could not be scored.
    """

    output_dir: Path
    summary: Mapping[str, Any]
    problems: tuple[str, ...]


def pool_scores(study: Study) -> PooledScores:
    """Put the scores of the folds together and write their summary, tables and report.

    They are read from the folds' files, so they are the same however often the study was
    interrupted.

    Raises:
        DataError: If the evaluation of a fold is missing or damaged.
    """
    config, layout = study.config, study.layout
    # The structures that the models tell apart: a data set may have named them itself.
    table = describe_model(layout.fold(0).best).table
    folds = [read_evaluation(layout.fold(number).evaluation, table) for number in study.folds]
    scores = collect_scores(
        [case for fold in folds for case in fold.scores.cases],
        table,
        tolerance_mm=config.evaluate.tolerance_mm,
    )
    problems = _gather(folds, "problems")
    table_file = config.data.clinical_file
    context = Context(
        warnings=_gather(folds, "warnings"),
        provenance={
            "study": str(layout.study_dir),
            "folds": [dict(fold.summary["provenance"]) for fold in folds],
        },
        problems=problems,
        groups=read_clinical_table(table_file).groups() if table_file else {},
        num_resamples=config.evaluate.num_bootstrap,
        seed=config.evaluate.seed,
    )
    paper = Paper(config.evaluate.table_measures, config.evaluate.figures)
    with filling(layout.evaluation, OWNED, overwrite=True):
        summary = write_evaluation(
            layout.evaluation, scores, context, _gather_material(study), paper=paper
        )
    for warning in context.warnings:
        logger.warning("%s", warning)
    return PooledScores(layout.evaluation, summary, problems)


def _gather(folds: list[WrittenEvaluation], key: str) -> tuple[str, ...]:
    """Return what the summaries of the folds list, each text once."""
    return tuple(dict.fromkeys(text for fold in folds for text in fold.summary[key]))


def _gather_material(study: Study) -> Material:
    """Collect what the report shows beside scores: pictures, curves, settings."""
    tested_by = {case: number for number in study.folds for case in study.test_cases(number)}

    def read_view(case: str) -> OrientedCase | None:
        config = study.fold_config(tested_by[case])
        held_out = find_held_out(config, find_split(config))
        if case not in held_out.sources:
            return None
        layout = study.layout.fold(tested_by[case])
        model = describe_model(layout.best)
        return read_scored_case(case, held_out.sources[case], layout.evaluation, model)

    curves = {}
    for number in study.folds:
        history = study.layout.fold(number).history
        epochs = read_json(history)["epochs"] if history.is_file() else []
        for name in ("loss", "val_loss"):
            values = [epoch.get(name) for epoch in epochs]
            if any(value is not None for value in values):
                curves[f"fold {number} {name}"] = [
                    float("nan") if value is None else value for value in values
                ]
    return Material(TITLE, read_view, curves, {"Configuration": dump_config(study.config)})
