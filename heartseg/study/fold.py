"""One fold of a study: trained and evaluated, as far as that is not done."""

from pathlib import Path

from heartseg.config.schema import Config
from heartseg.errors import BatchError
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.train import run_training
from heartseg.study.plan import is_evaluated, is_trained


def run_fold(config: Config) -> Path:
    """Train the network of a fold and score it on its test patients.

    A training that was interrupted goes on after its last finished epoch. Test patients that cannot
    be scored are noted in the evaluation and do not stop the study.

    Args:
        config: The configuration of the fold; see ``Study.fold_config``.

    Returns:
        The folder of the run.

    Raises:
        HeartsegError: If the fold cannot be trained or scored at all.
    """
    if not is_trained(config.run_dir):
        run_training(config, resume=True)
    if not is_evaluated(config.run_dir):
        try:
            run_evaluation(config, overwrite=True)
        except BatchError:
            # summary.json lists them, and the study reports those of all folds at its end.
            return config.run_dir
    return config.run_dir
