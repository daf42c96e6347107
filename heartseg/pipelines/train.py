"""``heartseg train``: slices or whole hearts to a model, its curves and all that resuming needs."""

from typing import TYPE_CHECKING

from heartseg.config.schema import Config
from heartseg.errors import ConfigError
from heartseg.files import logging_once
from heartseg.progress import Report, silent
from heartseg.runs.folder import check_run_dir
from heartseg.runs.kind import find_kind
from heartseg.runs.lineage import check_initial_labels
from heartseg.surroundings import check_backend

if TYPE_CHECKING:
    from heartseg.training.callbacks import Track
    from heartseg.training.loop import TrainingResult


@logging_once()
def run_training(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    track: "Track | None" = None,
    report: Report = silent,
) -> "TrainingResult":
    """Fit the model to the training part of a split, and keep the best and the last state.

    Args:
        config: Uses the sections ``data``, ``split``, ``prepare``, ``model``, ``synthesis``,
            ``train``, ``parallel`` and ``labels``, and ``run_dir``.
        resume: Go on with the run in ``run_dir``, after its last finished epoch; begin if it has
            none.
        overwrite: Replace the run in ``run_dir``.
        track: Told after each step and each epoch, if given.
        report: Told after each volume that is read before training.

    Returns:
        The best epoch and the record of all.

    Raises:
        ConfigError: If a resumed run would be another one than it was.
        DataError: If the dataset is missing or broken, or ``run_dir`` holds a run and neither
            ``resume`` nor ``overwrite`` is set, or another process is at work there.
        ModelError: If the network does not fit into memory, a loss is no number, the state to
            resume from is damaged, or the weights to start from tell other structures apart.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite replaces it: give one of them")
    check_backend()
    kind = find_kind(config.model.kind)
    config = kind.adopt_data(config)
    # All that can be wrong is looked at before TensorFlow loads, which takes seconds.
    kind.check_material(config)
    check_initial_labels(config.train.init, config.label_table)
    check_run_dir(config, resume=resume, overwrite=overwrite)

    from heartseg.runs.fitting import fit_run
    from heartseg.training.callbacks import ignore_progress

    return fit_run(
        config,
        resume=resume,
        overwrite=overwrite,
        track=track or ignore_progress,
        report=report,
    )
