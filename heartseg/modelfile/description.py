"""What a model was trained for, as its file says: its input and its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heartseg.cohort.training_record import TrainingRecord, read_training_record
from heartseg.errors import ConfigError, ModelError
from heartseg.labels import LabelTable, Structure, build_label_table
from heartseg.slices.recipe import SliceRecipe

SLICES, WHOLE_HEART = "slices", "whole_heart"
"""The kinds of network, as a model file names them."""
WHOLE_HEART_VIEW = SliceRecipe(plane="axial", window="percentile", window_range=(0.5, 99.5))
"""How scans of any scanner are shown: only the plane and the window count."""


@dataclass(frozen=True)
class Calibration:
    """What a stability between views means, as measured with one model.

    Attributes:
        doubtful: Below this a structure is doubtful.
        sure: Below this mean of all structures the scan is unlike the training data.
        hopeless: Below this mean there is no heart.
        usual: The mean on hearts of the kind that the model knows, at least.
    """

    doubtful: float
    sure: float
    hopeless: float
    usual: float

    def __post_init__(self) -> None:
        if not all(
            isinstance(value, float) and 0 <= value <= 1
            for value in (self.doubtful, self.sure, self.hopeless, self.usual)
        ):
            raise ValueError("calibration: expected fractions of 0 to 1")


@dataclass(frozen=True)
class ModelDescription:
    """What a model was trained for, as its file tells.

    Attributes:
        recipe: How slices reach the network; of a network that sees whole hearts, how its
            results are shown.
        table: The classes that it tells apart.
        kind: ``slices`` or ``whole_heart``.
        grid: Voxels that a network of whole hearts sees; zeros for one of slices.
        identity: What results call the model: a name or file, and the begin of its checksum.
        record: What it learned from; None if that is not known.
        calibration: What its stability between views means; None if that was not measured.
    """

    recipe: SliceRecipe
    table: LabelTable
    kind: str = SLICES
    grid: tuple[int, int, int] = (0, 0, 0)
    identity: str = ""
    record: TrainingRecord | None = None
    calibration: Calibration | None = None

    @classmethod
    def for_whole_heart(
        cls,
        grid: tuple[int, int, int],
        table: LabelTable,
        *,
        calibration: Calibration | None = None,
    ) -> "ModelDescription":
        """Describe a network that sees whole hearts, of which no file says more."""
        return cls(WHOLE_HEART_VIEW, table, WHOLE_HEART, grid, calibration=calibration)

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], *, source: str, identity: str = ""
    ) -> "ModelDescription":
        """Read the description that a checkpoint carries.

        Args:
            metadata: Holds ``labels``, and ``recipe`` or (kind ``whole_heart``) ``network``; may
                hold ``calibration``.
            source: What to call the model in an error, usually its file.
            identity: What results call the model.

        Raises:
            ModelError: If an entry is missing or makes no sense.
        """
        try:
            kind, grid = str(metadata.get("kind", SLICES)), (0, 0, 0)
            if kind == WHOLE_HEART:
                recipe = WHOLE_HEART_VIEW
                first, second, third = (int(side) for side in metadata["network"]["grid"])
                grid = (first, second, third)
            else:
                recipe = SliceRecipe.from_dict(metadata["recipe"])
            structures = [
                Structure(
                    int(entry["value"]),
                    str(entry["key"]),
                    str(entry["name"]),
                    _color(entry["color"]),
                )
                for entry in metadata["labels"]
            ]
            record = read_training_record(metadata)
            known = metadata.get("calibration")
            calibration = None if known is None else Calibration(**known)
            table = build_label_table(structures)
            return cls(recipe, table, kind, grid, identity, record, calibration)
        except KeyError as error:
            raise ModelError(f"{source}: the model's description lacks {error}") from error
        except (TypeError, ValueError, ConfigError) as error:
            raise ModelError(f"{source}: the model's description is broken ({error})") from error


def _color(values: Sequence[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
