"""The folder of a training run: the one place that spells the names of its files.

Loads neither Keras nor TensorFlow, so that a command can look at a run before it waits for them.
"""

from dataclasses import dataclass
from pathlib import Path

from heartseg.errors import DataError
from heartseg.ownership import Outputs

STUDY = "study.json"
"""A folder with this file is a study, which holds a run per fold."""


@dataclass(frozen=True)
class RunLayout:
    """The files of a run.

    Attributes:
        run_dir: Its folder.
    """

    run_dir: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.run_dir / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, devices and precision of the training."""
        return self.run_dir / "environment.json"

    @property
    def best(self) -> Path:
        """The model of the best epoch."""
        return self.run_dir / "best.keras"

    @property
    def state(self) -> Path:
        """All that a resumed training needs, of the last finished epoch."""
        return self.run_dir / "last" / "state.keras"

    @property
    def history(self) -> Path:
        """The record of all epochs."""
        return self.run_dir / "history.json"

    @property
    def losses_table(self) -> Path:
        """Losses per epoch, in the published form."""
        return self.run_dir / "train_losses.csv"

    @property
    def metrics_table(self) -> Path:
        """Metrics per epoch, in the published form."""
        return self.run_dir / "train_metrics.csv"

    @property
    def losses_plot(self) -> Path:
        """The curves of the losses."""
        return self.run_dir / "train_losses.png"

    @property
    def metrics_plot(self) -> Path:
        """The curves of the metrics."""
        return self.run_dir / "train_metrics.png"

    @property
    def epoch_change_infer(self) -> Path:
        """Folder of the masks that are predicted after each epoch."""
        return self.run_dir / "epoch_change_infer"

    @property
    def tensorboard(self) -> Path:
        """Folder of the TensorBoard files."""
        return self.run_dir / "tensorboard"

    @property
    def summary(self) -> Path:
        """The layers of the network."""
        return self.run_dir / "model_summary.txt"

    @property
    def diagram(self) -> Path:
        """The drawing of a network of slices."""
        return self.run_dir / "model.png"

    @property
    def evaluation(self) -> Path:
        """Folder of the scores."""
        return self.run_dir / "evaluation"

    @property
    def inference(self) -> Path:
        """Folder of the label maps that ``infer`` writes unless it is given another."""
        return self.run_dir / "inference"

    @property
    def training_outputs(self) -> Outputs:
        """All that a training writes: what ``--overwrite`` may replace."""
        files = (
            self.config,
            self.environment,
            self.best,
            self.losses_table,
            self.metrics_table,
            self.losses_plot,
            self.metrics_plot,
            self.history,
            self.summary,
            self.diagram,
        )
        folders = (self.state.parent, self.epoch_change_infer, self.tensorboard)
        return Outputs(
            "train",
            (*(file.name for file in files), *(f"{folder.name}/**" for folder in folders)),
            # The log of a cluster, or notes, lie there as well.
            shared=True,
            beside=(self.evaluation.name, self.inference.name),
        )

    def require_best(self) -> Path:
        """Return the file of the best model.

        Raises:
            DataError: If the run has none.
        """
        if (self.run_dir / STUDY).is_file():
            raise DataError(
                f"{self.run_dir}: is a study, not a run; its scores are in {self.evaluation}, and "
                f"each fold is a run: {self.run_dir / 'fold_0'}"
            )
        if not self.best.is_file():
            raise DataError(f"{self.best}: no such file; run `heartseg train` first")
        return self.best
