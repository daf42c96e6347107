"""Where the weights of a run start, and what those weights have learned from."""

from pathlib import Path

from heartseg.cohort.training_record import TrainingRecord, read_training_record
from heartseg.config.schema import PACKAGED
from heartseg.errors import ModelError
from heartseg.labels import LabelTable
from heartseg.modelfile.checkpoint import read_metadata
from heartseg.modelfile.description import ModelDescription
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


def check_initial_labels(init: str | None, table: LabelTable) -> None:
    """Make sure that the weights a training starts from tell the same structures apart.

    Args:
        init: As ``train.init``: ``packaged``, a ``.keras`` file, or None for new weights.
        table: The labels of the training.

    Raises:
        ModelError: If the structures differ, or the file is missing or damaged.
    """
    if init is None:
        return
    if init == PACKAGED:
        known = describe_packaged().description.table
    else:
        known = ModelDescription.from_metadata(read_metadata(Path(init)), source=init).table
    theirs, listed = ([s.key for s in labels.foreground] for labels in (known, table))
    if theirs == listed:
        return
    differences = [
        f"{where}: {', '.join(keys)}"
        for where, keys in (
            ("only in section labels", [key for key in listed if key not in theirs]),
            ("only in the weights", [key for key in theirs if key not in listed]),
        )
        if keys
    ]
    raise ModelError(
        f"train.init: expected weights for the structures {', '.join(listed)} of section labels, "
        f"found weights for {', '.join(theirs)} in {_name(init)} "
        f"({'; '.join(differences) or 'the same in another order'}). Leave out train.init to train "
        "new weights, or set labels to those of the weights"
    )


def _name(init: str) -> str:
    return "the packaged model" if init == PACKAGED else init


def read_record(model_file: Path) -> TrainingRecord | None:
    """Return what a model file says of its training; None if it says nothing.

    Raises:
        ModelError: If the file is missing or damaged.
    """
    try:
        return read_training_record(read_metadata(model_file))
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{model_file}: the record of its training is broken ({error})") from error
