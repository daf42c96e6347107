"""The sections of the configuration that say how networks are trained, and on what."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from heartseg.config.section import FilterCount, Fraction, GridSide, Section, Seed, expand_home
from heartseg.training.losses import LOSSES

if TYPE_CHECKING:
    LossName = str
else:
    LossName = Literal[LOSSES]


class SynthesisConfig(Section):
    """How images are made from label maps, for model.kind: whole_heart."""

    label_maps_dir: Path | None = None
    """Folder of label maps without images that join the training cases."""
    scenes_per_label_map: PositiveInt = 4
    """Chests that are drawn around each label map before training."""
    scan_share: Fraction = 0.2
    """Share of the training samples that are real scans; 0 trains on drawn ones alone."""
    mirror_share: Fraction = 0.0
    """Share of the training samples that are mirrored, left for right."""


class SecondStageConfig(Section):
    """A second network that corrects the first on a finer grid, for model.kind: whole_heart."""

    enabled: bool = False
    """Whether it is trained after the first network, and kept in the same model file."""
    grid: tuple[GridSide, GridSide, GridSide] = (112, 144, 128)
    """Voxels over the box around the heart, toward posterior, inferior, right."""
    patch: tuple[GridSide, GridSide, GridSide] = (64, 80, 72)
    """Voxels of the grid that are corrected at once."""
    training_patch: tuple[GridSide, GridSide, GridSide] = (48, 64, 48)
    """Voxels of the grid that it learns from at once; smaller ones take less time and memory."""
    filters: Annotated[tuple[FilterCount, ...], Field(min_length=1, max_length=6)] = (32, 64, 96)
    """Channels of each level, the finest first."""
    epochs: PositiveInt = 30
    """Upper bound of its epochs; all else of its training is as in section train."""
    steps_per_epoch: PositiveInt = 250
    """Optimizer steps of its epochs."""

    @model_validator(mode="after")
    def _patches_fit(self) -> "SecondStageConfig":
        step = 2 ** len(self.filters)
        for key in ("patch", "training_patch"):
            sides = getattr(self, key)
            if any(side % step or side > most for side, most in zip(sides, self.grid, strict=True)):
                raise ValueError(
                    f"{key}: expected multiples of {step} (2 to the number of filters) of at most "
                    f"the grid {list(self.grid)}, got {list(sides)}"
                )
        return self


class AugmentConfig(Section):
    """Online augmentation of the training slices; everything is off unless asked for."""

    flip_horizontal: bool = False
    """Mirror left and right with probability 1/2."""
    flip_vertical: bool = False
    """Mirror up and down with probability 1/2."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation, either way."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of size: 0.1 gives 0.9 to 1.1."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest shift as a share of the side."""
    elastic_alpha: Annotated[float, Field(ge=0)] = 0.0
    """Largest elastic displacement in pixels."""
    elastic_sigma: PositiveFloat = 16.0
    """Smoothness of the elastic displacement in pixels."""
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest added intensity, either way; white is 1."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of contrast: 0.2 gives 0.8 to 1.2."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of the exponent: 0.2 gives 0.8 to 1.25."""
    blur_sigma: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Largest width of a Gaussian blur in pixels."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest standard deviation of added noise."""


class TrainConfig(Section):
    """How the network is fitted; the defaults are the published values."""

    batch_size: PositiveInt = 2
    """Slices per optimizer step (per replica)."""
    epochs: PositiveInt = 100
    """Upper bound; early stopping may end training before it."""
    learning_rate: PositiveFloat = 7e-5
    """Step size of Adam."""
    clipvalue: Annotated[float, Field(ge=0)] = 0.5
    """Gradients are clipped to this absolute value; 0 switches clipping off."""
    clipnorm: Annotated[float, Field(ge=0)] = 0.0
    """The gradient of each weight array is clipped to this norm; 0 switches clipping off."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled decay of the weights; above 0 the optimizer is AdamW."""
    average_weights: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum of the average of weights that is validated and kept; 0 keeps the last ones."""
    init: str | None = None
    """Weights to start from: packaged (whole_heart), or a .keras file of the same network."""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """plateau: learning_rate_reducer decides. cosine: from learning_rate to 2 % over all epochs."""
    loss: LossName = "categorical_crossentropy"
    """What is minimised."""
    metrics: tuple[Literal["dice_coef_multiclass", "dice_per_structure", "accuracy"], ...] = (
        "dice_coef_multiclass",
    )
    """What else is recorded each epoch."""
    patience: PositiveInt = 10
    """Epochs without a better validation loss before training stops."""
    learning_rate_reducer: bool = True
    """Whether the rate is reduced when the validation loss stalls."""
    reducer_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor by which the rate is reduced."""
    reducer_patience: PositiveInt = 4
    """Epochs without a better validation loss before the rate is reduced."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """The rate is never reduced below this."""
    epoch_change_infer: bool = True
    """Whether a few validation slices are segmented after each epoch."""
    num_infer_images: PositiveInt = 6
    """How many slices are segmented after each epoch."""
    steps_per_epoch: PositiveInt | None = None
    """Optimizer steps an epoch; the default is one pass over the training slices."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the processor or GPU computes in it, else float32."""
    seed: Seed = 137
    """Seed of initial weights, shuffling, dropout and augmentation."""
    deterministic: bool = False
    """Whether equal runs give equal weights, at some cost of time."""
    shortcuts: Literal["auto", "off"] = "auto"
    """auto: steps of equal result with less work, on processors. off: plain Keras."""
    tensorboard: bool = True
    """Whether TensorBoard files are written."""
    augment: AugmentConfig = AugmentConfig()
    """Online augmentation."""

    @field_validator("init")
    @classmethod
    def _init_is_expanded(cls, value: str | None) -> str | None:
        return None if value is None else expand_home(value)

    @model_validator(mode="after")
    def _one_way_of_clipping(self) -> "TrainConfig":
        if self.clipvalue and self.clipnorm:
            raise ValueError("clipvalue, clipnorm: set one of them to 0")
        return self
