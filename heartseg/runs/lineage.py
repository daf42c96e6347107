"""Where the weights of a run start, and what those weights have learned from."""

from pathlib import Path

from heartseg.cohort.training_record import TrainingRecord, read_training_record
from heartseg.config.schema import PACKAGED
from heartseg.errors import ModelError
from heartseg.modelfile.checkpoint import read_metadata
from heartseg.modelfile.packaged import describe_packaged


def find_origin(init: str | None) -> tuple[str, TrainingRecord | None]:
    """Return the name of the weights that a training starts from, and what they learned from.

    Args:
        init: As ``train.init``: ``packaged``, a ``.keras`` file, or None for new weights.

    Returns:
        The name, empty for new weights, and the record; None where there is none.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    if init is None:
        return "", None
    if init == PACKAGED:
        return PACKAGED, describe_packaged().record
    return Path(init).name, read_record(Path(init))


def read_record(model_file: Path) -> TrainingRecord | None:
    """Return what a model file says of its training; None if it says nothing.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    try:
        return read_training_record(read_metadata(model_file))
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{model_file}: the record of its training is broken ({error})") from error
