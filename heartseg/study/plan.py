"""What a study will do: its folds, a configuration for each, and what is done already."""

import logging
from dataclasses import dataclass
from pathlib import Path

from heartseg.cohort.split_record import SPLIT, read_split_record
from heartseg.config.loading import load_config
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError
from heartseg.files import read_json
from heartseg.modelfile.description import WHOLE_HEART
from heartseg.ownership import Outputs, read_made
from heartseg.pipelines import score_model, split
from heartseg.runs.folder import list_changes
from heartseg.runs.layout import RunLayout
from heartseg.runs.study_layout import StudyLayout
from heartseg.slices.prepared import read_prepared_state

logger = logging.getLogger(__name__)

DEFAULT_FOLDS = 5
"""Folds of a study whose configuration names none."""
SECTIONS = frozenset(
    {"data", "prepare", "split", "model", "synthesis", "train", "second_stage", "evaluate"}
)
"""The sections that make a study what it is."""
MAY_CHANGE = frozenset(
    {
        "data.dataset_dir",
        "data.master_dir",
        "data.source_dir",
        "prepare.num_samples",
        "evaluate.batch_size",
        "evaluate.figures",
        "evaluate.num_bootstrap",
        "evaluate.seed",
        "evaluate.table_measures",
    }
)
"""What a continued study may have otherwise than before; all else would make it another one."""


@dataclass(frozen=True)
class Study:
    """A study: its configuration and its folder.

    Attributes:
        config: The configuration, with folds and with the study's folder as ``run_dir``.
    """

    config: Config

    @property
    def layout(self) -> StudyLayout:
        """The files of the study."""
        return StudyLayout(self.config.run_dir)

    @property
    def folds(self) -> range:
        """The numbers of the folds."""
        return range(self.config.split.folds)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs of a fold, at most: those of the network, and of a second stage if any."""
        second = self.config.second_stage
        return (self.config.train.epochs, *([second.epochs] if second.enabled else []))

    def fold_config(self, number: int) -> Config:
        """Return the configuration of the run of a fold."""
        config = self.config
        return config.model_copy(
            update={
                "run_dir": self.layout.fold(number).run_dir,
                "split": config.split.model_copy(update={"fold": number}),
            }
        )

    def test_cases(self, number: int) -> tuple[str, ...]:
        """Return the patients that a fold is tested on, once the folds are drawn."""
        file = self.fold_config(number).dataset_dir / SPLIT
        return read_split_record(file).cases["test"]


def plan_study(config: Config) -> Study:
    """Return the study that a configuration describes, without touching anything.

    Args:
        config: Uses all sections. ``run_dir`` is the folder of the study, which keeps its folds
            apart from those of ``data.dataset_dir``; without ``split.folds`` there are five.

    Raises:
        ConfigError: If the configuration fits no study, or another one than the folder holds.
        DataError: If the folder holds a single run.
    """
    settings = config.split
    if settings.by != "patient" or settings.train_cases is not None:
        raise ConfigError(
            "split: a study draws folds by patient; set split.by to patient and leave out "
            "split.train_cases, valid_cases and test_cases"
        )
    if config.parallel.num_processes > 1:
        raise ConfigError(
            "parallel.num_processes: a study trains each fold in one process; set it to 1, or "
            "train the folds one by one with split.fold"
        )
    if RunLayout(config.run_dir).best.is_file():
        raise DataError(
            f"{config.run_dir}: holds a single run; choose another folder for the study, for "
            f"example --set run_dir={config.run_dir}_study"
        )
    layout = StudyLayout(config.run_dir)
    folds = settings.folds or DEFAULT_FOLDS
    return Study(
        config.model_copy(
            update={
                "split": settings.model_copy(update={"folds": folds, "fold": 0}),
                "data": config.data.model_copy(update={"dataset_dir": layout.dataset_dir}),
            }
        )
    )


def check_same_study(study: Study) -> None:
    """Make sure that the study in the folder, if there is one, is this one.

    Raises:
        ConfigError: If it was begun with other settings.
    """
    if not study.layout.config.is_file():
        return
    before = load_config(study.layout.config)
    changes = list_changes(before, study.config, SECTIONS, may_change=MAY_CHANGE)
    if changes:
        raise ConfigError(
            f"{study.layout.study_dir}: the study was begun with other settings; put them back, "
            "choose another run_dir, or replace it with --overwrite:\n  - " + "\n  - ".join(changes)
        )


def has_slices_only(study: Study) -> bool:
    """Return whether a study needs no scans: all slices are prepared, and the scans are gone."""
    data = study.config.data
    if study.config.model.kind == WHOLE_HEART or data.source_dir.is_dir():
        return False
    state = read_prepared_state(data.master_dir)
    return state is not None and state.complete


def is_split(study: Study) -> bool:
    """Return whether the folds are drawn."""
    return _is_complete(study.layout.dataset_dir, split.OWNED)


def is_trained(run_dir: Path) -> bool:
    """Return whether the training of a fold came to its end."""
    layout = RunLayout(run_dir)
    return layout.best.is_file() and _is_complete(run_dir, layout.training_outputs)


def is_evaluated(run_dir: Path) -> bool:
    """Return whether the model of a fold is scored, on all its test patients."""
    layout = RunLayout(run_dir)
    summary = layout.evaluation / "summary.json"
    if not _is_complete(layout.evaluation, score_model.OWNED) or not summary.is_file():
        return False
    is_newer = summary.stat().st_mtime_ns >= layout.best.stat().st_mtime_ns
    return is_newer and not read_json(summary).get("problems")


def _is_complete(folder: Path, outputs: Outputs) -> bool:
    made = read_made(folder).get(outputs.command)
    return made is not None and made.complete
