"""What a model was trained for, as its file says: its input and its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heartseg.cohort.training_record import TrainingRecord, read_training_record
from heartseg.errors import ConfigError, ModelError
from heartseg.labels import LabelTable, Structure, build_label_table
from heartseg.slices.recipe import SliceRecipe

SLICES, WHOLE_HEART = "slices", "whole_heart"
"""The kinds of network, as a model file names them."""
SECOND_STAGE = "second_stage"
"""What an exported file of a second network names in place of a kind."""
WHOLE_HEART_VIEW = SliceRecipe(plane="axial", window="percentile", window_range=(0.5, 99.5))
"""How scans of any scanner are shown: only the plane and the window count."""


@dataclass(frozen=True)
class Calibration:
    """What stability between views and confidence mean, as measured with one model.

    Attributes:
        doubtful: A structure of lower stability is doubtful, unless ``confident`` decides it.
        sure: Below this mean of all structures the scan is unlike the training data.
        hopeless: Below this mean there is no heart.
        usual: The mean on hearts of the kind that the model knows, at least.
        confident: A structure of lower confidence is doubtful; None: this was not measured.
    """

    doubtful: float
    sure: float
    hopeless: float
    usual: float
    confident: float | None = None

    def __post_init__(self) -> None:
        values = [self.doubtful, self.sure, self.hopeless, self.usual]
        values += [] if self.confident is None else [self.confident]
        if not all(isinstance(value, float) and 0 <= value <= 1 for value in values):
            raise ValueError("calibration: expected fractions of 0 to 1")


@dataclass(frozen=True)
class SecondStage:
    """A second network, which corrects the probabilities of the first on a finer grid.

    Attributes:
        grid: Voxels over the box around the heart.
        patch: Voxels of the grid that the network sees at once.
    """

    grid: tuple[int, int, int]
    patch: tuple[int, int, int]

    def __post_init__(self) -> None:
        if len(self.grid) != 3 or len(self.patch) != 3:
            raise ValueError("second_stage: expected a grid and a patch of three sides")
        if not all(4 <= part <= side for part, side in zip(self.patch, self.grid, strict=True)):
            raise ValueError(
                f"second_stage: expected a patch of at least 4 voxels per side and at most "
                f"{self.grid}, found {self.patch}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SecondStage":
        """Read what a model file says of it.

        Raises:
            KeyError: If an entry is missing.
            TypeError: If an entry is no list.
            ValueError: If an entry makes no sense.
        """
        return cls(_sides(values["grid"]), _sides(values["patch"]))


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
        second_stage: The second network of the model; None if it has one only.
    """

    recipe: SliceRecipe
    table: LabelTable
    kind: str = SLICES
    grid: tuple[int, int, int] = (0, 0, 0)
    identity: str = ""
    record: TrainingRecord | None = None
    calibration: Calibration | None = None
    second_stage: SecondStage | None = None

    @classmethod
    def for_whole_heart(
        cls,
        grid: tuple[int, int, int],
        table: LabelTable,
        *,
        calibration: Calibration | None = None,
        second_stage: SecondStage | None = None,
    ) -> "ModelDescription":
        """Describe a network that sees whole hearts, of which no file says more."""
        return cls(
            WHOLE_HEART_VIEW,
            table,
            WHOLE_HEART,
            grid,
            calibration=calibration,
            second_stage=second_stage,
        )

    def without_second_stage(self) -> "ModelDescription":
        """Describe the model as its first stage alone; results say so."""
        if self.second_stage is None:
            return self
        identity = f"{self.identity}, first stage only"
        calibration = self.calibration
        if calibration is not None:
            # The confidence was measured after the second stage, which is surer.
            calibration = replace(calibration, confident=None)
        return replace(self, second_stage=None, identity=identity, calibration=calibration)

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], *, source: str, identity: str = ""
    ) -> "ModelDescription":
        """Read the description that a checkpoint carries.

        Args:
            metadata: Holds ``labels``, and ``recipe`` or (kind ``whole_heart``) ``network``; may
                hold ``calibration`` and ``second_stage``.
            source: What to call the model in an error, usually its file.
            identity: What results call the model.

        Raises:
            ModelError: If an entry is missing or makes no sense.
        """
        try:
            kind, grid = str(metadata.get("kind", SLICES)), (0, 0, 0)
            if kind == SECOND_STAGE:
                raise ModelError(
                    f"{source}: is the second stage of a model; name the file of its first stage, "
                    "beside which it lies"
                )
            if kind == WHOLE_HEART:
                recipe = WHOLE_HEART_VIEW
                grid = _sides(metadata["network"]["grid"])
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
            second = metadata.get("second_stage")
            stage = None if second is None else SecondStage.from_dict(second)
            table = build_label_table(structures)
            return cls(recipe, table, kind, grid, identity, record, calibration, stage)
        except KeyError as error:
            raise ModelError(f"{source}: the model's description lacks {error}") from error
        except (TypeError, ValueError, ConfigError) as error:
            raise ModelError(f"{source}: the model's description is broken ({error})") from error


def _color(values: Sequence[Any]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _sides(values: Sequence[Any]) -> tuple[int, int, int]:
    first, second, third = (int(side) for side in values)
    return first, second, third
