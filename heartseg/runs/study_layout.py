"""The folder of a study: the one place that spells the names of its files.

It holds a run per fold, the folds' slices, and the scores of all patients together.
"""

from dataclasses import dataclass
from pathlib import Path

from heartseg.config.schema import PACKAGED
from heartseg.errors import DataError, ModelError
from heartseg.files import read_json, write_json
from heartseg.modelfile.checkpoint import SUFFIX as KERAS_SUFFIX
from heartseg.modelfile.onnx_file import SUFFIX as ONNX_SUFFIX
from heartseg.ownership import Outputs
from heartseg.runs.layout import STUDY, RunLayout
from heartseg.scans.reading import is_scan


@dataclass(frozen=True)
class StudyLayout:
    """The files of a study.

    Attributes:
        study_dir: Its folder.
    """

    study_dir: Path

    @property
    def record(self) -> Path:
        """How many folds the study has; a folder with this file is a study."""
        return self.study_dir / STUDY

    @property
    def config(self) -> Path:
        """The resolved configuration of the study."""
        return RunLayout(self.study_dir).config

    @property
    def dataset_dir(self) -> Path:
        """Folder of the slices of each fold."""
        return self.study_dir / "dataset"

    @property
    def evaluation(self) -> Path:
        """Folder of the scores of all patients, each by the model that has not seen it."""
        return RunLayout(self.study_dir).evaluation

    @property
    def outputs(self) -> Outputs:
        """All that a study writes: what ``--overwrite`` may replace."""
        parts = (self.dataset_dir.name, "fold_*", self.evaluation.name)
        files = (self.config.name, self.record.name)
        return Outputs("study", (*files, *(f"{part}/**" for part in parts)), shared=True)

    def fold(self, number: int) -> RunLayout:
        """Return the files of the run of a fold, counted from 0."""
        return RunLayout(self.study_dir / f"fold_{number}")

    def write_record(self, folds: int) -> None:
        """Make the folder one of a study."""
        write_json(self.record, {"folds": folds})

    def models(self) -> list[Path]:
        """Return the best model of each fold.

        Raises:
            DataError: If the folder is no study, or a fold is not trained.
        """
        try:
            folds = int(read_json(self.record)["folds"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.record}: expected the number of folds ({error!r})") from error
        files = [self.fold(number).best for number in range(folds)]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise DataError(
                f"{missing[0]}: no such file; run `heartseg study {self.study_dir}` again, which "
                "does what is missing"
            )
        return files


def is_study(folder: Path) -> bool:
    """Return whether a folder is one of a study."""
    return StudyLayout(folder).record.is_file()


def find_model(run_dir: Path) -> Path:
    """Return what segments scans: the best model of a run, or the folder of a study.

    Raises:
        DataError: If the run has no model.
    """
    return run_dir if is_study(run_dir) else RunLayout(run_dir).require_best()


def locate_model(source: str | Path) -> Path | None:
    """Return the model that ``--init`` or ``--model`` names.

    Args:
        source: ``"packaged"``; or the path of a folder of a run or study, or of a model file.

    Returns:
        As ``find_model`` for a folder; None for the packaged model.

    Raises:
        DataError: If the run has no model.
    """
    if source == PACKAGED:
        return None
    path = Path(source)
    return find_model(path) if path.is_dir() else path


def check_model_file(file: Path) -> None:
    """Make sure that a file is a model by its name.

    Raises:
        ModelError: If it is not there, or of another kind.
    """
    found = None
    if not file.is_file():
        found = "a folder" if file.is_dir() else "no such file"
    elif file.suffix not in (KERAS_SUFFIX, ONNX_SUFFIX):
        found = "a scan" if is_scan(file) else "a file of another kind"
    if found is not None:
        raise ModelError(
            f"{file}: expected a model (a {KERAS_SUFFIX} file, an {ONNX_SUFFIX} file of `heartseg "
            f"export`, or the folder of a run or study), found {found}"
        )


def list_models(model: Path | None) -> list[Path | None]:
    """Return the model files that segment together.

    Args:
        model: A ``.keras`` file, the folder of a study, or None for the packaged model.

    Raises:
        DataError: If a fold of the study is not trained.
    """
    if model is not None and model.is_dir():
        return [*StudyLayout(model).models()]
    return [model]
