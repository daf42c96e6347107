"""The section `model`: one class for each kind of network, with the keys of that kind only."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from heartseg.config.section import FilterCount, GridSide, Odd, Section

SLICES, WHOLE_HEART = "slices", "whole_heart"
"""The kinds of network, as `model.kind` names them."""


class SliceModelConfig(Section):
    """A U-Net that sees one slice at a time; the defaults are the published FlexUNet's."""

    kind: Literal["slices"] = "slices"
    """Which network this is."""
    image_channels: Literal[1, 3] = 3
    """Input channels without context; 3 are copies of one grey slice, as published."""
    context: Annotated[int, Field(ge=0, le=8)] = 0
    """Neighbours on either side of a slice that are further input channels."""
    base_filters: PositiveInt = 16
    """Filters of the first level; doubled at each level below."""
    base_kernels: tuple[Odd, Odd] = (7, 7)
    """Kernel of the first level; 2 smaller at each level below, 3 at least."""
    num_layers: Annotated[int, Field(ge=2, le=10)] = 8
    """Levels, the bridge included."""
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.04
    """Dropout of level 1; level n has n times as much."""
    dilation: tuple[PositiveInt, PositiveInt] = (1, 1)
    """Dilation of the convolutions."""
    normalization: Literal["none", "batch", "group", "instance"] = "none"
    """Normalisation after each convolution."""
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = "relu"
    """Activation of the hidden layers."""
    attention: bool = False
    """Whether attention gates weight the skip connections."""
    block: Literal["plain", "residual"] = "plain"
    """plain: two convolutions, as published. residual: their input is added to their result."""

    @property
    def channels(self) -> int:
        """Input channels: a slice and its neighbours, or copies of a slice."""
        return 2 * self.context + 1 if self.context else self.image_channels

    @property
    def architecture(self) -> dict[str, Any]:
        """What ``build_unet`` takes beside image size, classes and seed."""
        return {**self.model_dump(exclude={"kind", "context"}), "image_channels": self.channels}

    @model_validator(mode="after")
    def _dropout_stays_below_one(self) -> "SliceModelConfig":
        deepest = self.dropout_rate * (self.num_layers - 1)
        if deepest >= 1:
            raise ValueError(
                "dropout_rate: expected less than 1 at the deepest level "
                f"(dropout_rate * (num_layers - 1)), got {deepest:g}"
            )
        return self


class WholeHeartModelConfig(Section):
    """A 3D U-Net that sees the whole heart at once."""

    kind: Literal["whole_heart"]
    """Which network this is."""
    grid: tuple[GridSide, GridSide, GridSide] = (48, 64, 48)
    """Voxels over the box around the heart, toward posterior, inferior, right."""
    filters: Annotated[tuple[FilterCount, ...], Field(min_length=1, max_length=6)] = (
        32,
        64,
        128,
        192,
    )
    """Channels of each level, the finest first."""

    @model_validator(mode="after")
    def _grid_fits_the_levels(self) -> "WholeHeartModelConfig":
        step = 2 ** len(self.filters)
        if any(side % step for side in self.grid):
            raise ValueError(
                f"grid: expected multiples of {step} (2 to the number of filters), got "
                f"{list(self.grid)}"
            )
        return self


def kind_of(value: Any) -> str | None:  # noqa: ANN401 - before types
    """Return the kind of a model section; one that names none is of slices."""
    if isinstance(value, dict):
        kind = value.get("kind", SLICES)
        return kind if isinstance(kind, str) else None
    return getattr(value, "kind", None)


MODEL_SECTIONS: dict[str, type[Section]] = {
    SLICES: SliceModelConfig,
    WHOLE_HEART: WholeHeartModelConfig,
}
ModelConfig = Annotated[
    Annotated[SliceModelConfig, Tag(SLICES)] | Annotated[WholeHeartModelConfig, Tag(WHOLE_HEART)],
    Discriminator(
        kind_of,
        custom_error_type="kind",
        custom_error_message=f"kind: expected {SLICES} or {WHOLE_HEART}",
    ),
]
"""The network: one section for each kind, with its own keys."""
