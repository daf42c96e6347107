"""The whole configuration: its sections, its labels, and what must fit together in it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from heartseg.config.data_sections import DataConfig, PrepareConfig, SplitConfig
from heartseg.config.model_sections import (
    MODEL_SECTIONS,
    SLICES,
    WHOLE_HEART,
    ModelConfig,
    SliceModelConfig,
    kind_of,
)
from heartseg.config.section import Byte, Section, SourceValue
from heartseg.config.training_sections import SecondStageConfig, SynthesisConfig, TrainConfig
from heartseg.config.use_sections import EvaluateConfig, InferConfig, ParallelConfig
from heartseg.errors import ConfigError
from heartseg.label_tables import LABEL_TABLES
from heartseg.labels import HVSMR, LabelTable, Structure

PACKAGED = "packaged"
"""What `train.init` calls the weights that come with the package."""
ONLY_FOR = {
    SLICES: (
        "train.augment",
        "infer.tiled",
        "infer.tile_overlap",
        "infer.batch_size",
        "infer.largest_component",
        "infer.overlay",
        "evaluate.batch_size",
    ),
    WHOLE_HEART: ("synthesis", "second_stage", "infer.second_stage"),
}
"""Sections and keys outside of `model` that only one kind of network uses."""
APPLIED = "infer."
"""What the keys begin with that say how a model is applied, wherever it was trained."""


class StructureConfig(Section):
    """One class of the label map."""

    value: Annotated[int, Field(ge=0, lt=255)]
    """Label value; 0 is the background."""
    key: Annotated[str, Field(min_length=1)]
    """Short name used in tables."""
    name: Annotated[str, Field(min_length=1)]
    """Full name."""
    color: tuple[Byte, Byte, Byte]
    """Red, green, blue in masks on disk."""
    display_color: tuple[Byte, Byte, Byte] | None = None
    """Red, green, blue in previews, pages and overlays; none: chosen for the colour-blind too."""
    source_values: tuple[SourceValue, ...] | None = None
    """Values in the label maps of data.source_dir, where they are not the value above."""


def _structures_of(table: LabelTable) -> tuple[StructureConfig, ...]:
    return tuple(
        StructureConfig(
            value=s.value, key=s.key, name=s.name, color=s.color, source_values=s.source_values
        )
        for s in table.structures
    )


class Config(Section):
    """The whole configuration."""

    run_dir: Path = Path("runs/whole_heart")
    """Folder of one training run: weights, curves, evaluation."""
    data: DataConfig = DataConfig()
    """Where the data lies."""
    prepare: PrepareConfig = PrepareConfig()
    """What happens to a slice before the network."""
    split: SplitConfig = SplitConfig()
    """Which cases train, validate and test the model."""
    model: ModelConfig = SliceModelConfig()
    """The network."""
    train: TrainConfig = TrainConfig()
    """How the network is fitted."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How predictions are scored."""
    infer: InferConfig = InferConfig()
    """What is predicted, and what is written beside it."""
    parallel: ParallelConfig = ParallelConfig()
    """How work is spread over processes and machines."""
    labels: tuple[StructureConfig, ...] = Field(default_factory=lambda: _structures_of(HVSMR))
    """The classes of the label map, background first; or a name: hvsmr, mmwhs, acdc, mnms."""

    synthesis: SynthesisConfig = SynthesisConfig()
    """How images are made from label maps."""
    second_stage: SecondStageConfig = SecondStageConfig()
    """A second network that corrects the first on a finer grid."""

    @property
    def dataset_dir(self) -> Path:
        """Folder that holds ``train``, ``valid`` and ``test``: of the chosen fold if there are."""
        folder = self.data.dataset_dir
        return folder / f"fold_{self.split.fold}" if self.split.folds else folder

    @property
    def recipe_values(self) -> dict[str, object]:
        """The plain values of the slice recipe that training and inference share."""
        settings = self.prepare.model_dump(exclude={"keep_empty", "num_samples"})
        network = {"image_channels": 3, "context": 0}
        return settings | {key: getattr(self.model, key, usual) for key, usual in network.items()}

    @property
    def label_table(self) -> LabelTable:
        """The label map that the `labels` section describes."""
        return LabelTable(
            tuple(
                Structure(**entry.model_dump())
                for entry in sorted(self.labels, key=lambda entry: entry.value)
            )
        )

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_may_be_a_name(cls, value: Any) -> Any:  # noqa: ANN401 - before types
        if not isinstance(value, str):
            return value
        if value not in LABEL_TABLES:
            raise ValueError(f"expected a list of structures or one of {', '.join(LABEL_TABLES)}")
        return _structures_of(LABEL_TABLES[value])

    @model_validator(mode="after")
    def _labels_fit_together(self) -> "Config":
        try:
            _ = self.label_table
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="before")
    @classmethod
    def _model_keeps_to_its_kind(cls, values: Any) -> Any:  # noqa: ANN401 - before types
        """Drop what a resolved configuration of version 0.1 holds of the other kind.

        It named the keys of both kinds; those at their defaults say nothing.
        """
        model = values.get("model") if isinstance(values, dict) else None
        if not isinstance(model, dict):
            return values
        kinds = (SLICES, WHOLE_HEART)
        own, other = kinds if kind_of(model) == SLICES else reversed(kinds)
        foreign = (
            MODEL_SECTIONS[other].model_fields.keys() - MODEL_SECTIONS[own].model_fields.keys()
        )
        silent = {key for key in foreign & model.keys() if _is_default(other, key, model[key])}
        return {**values, "model": {key: v for key, v in model.items() if key not in silent}}

    @model_validator(mode="after")
    def _all_keys_apply(self) -> "Config":
        foreign = find_foreign_keys(self, self.model.kind)
        if "model" not in self.model_fields_set:
            # No network is named: the packaged model or a file may segment, of either kind, and
            # what is ignored then is known when the model is.
            foreign = [key for key in foreign if not key.startswith(APPLIED)]
        if foreign:
            raise ValueError(f"model.kind: {self.model.kind} does not use {', '.join(foreign)}")
        return self

    @model_validator(mode="after")
    def _training_fits_the_kind(self) -> "Config":
        if self.model.kind == WHOLE_HEART:
            if self.train.loss != "dice_crossentropy" or self.train.metrics:
                raise ValueError(
                    "model.kind: whole_heart is trained with train.loss: dice_crossentropy and "
                    "train.metrics: []"
                )
        elif self.train.init == PACKAGED:
            raise ValueError(
                "train.init: the packaged weights are of a network of model.kind: whole_heart; "
                "name a .keras file of a network of slices"
            )
        return self

    @model_validator(mode="after")
    def _neighbours_are_there(self) -> "Config":
        if getattr(self.model, "context", 0):
            if not self.prepare.keep_empty:
                raise ValueError(
                    "model.context: the neighbours of a slice must be prepared too; set "
                    "prepare.keep_empty: true"
                )
            if self.split.by == "slice":
                raise ValueError(
                    "model.context: with split.by: slice, the neighbours of a slice are in other "
                    "parts; set split.by: patient"
                )
        return self

    @model_validator(mode="after")
    def _size_fits_the_network(self) -> "Config":
        if not isinstance(self.model, SliceModelConfig):
            return self
        stride = 2 ** (self.model.num_layers - 1)
        for key in ("image_width", "image_height"):
            size = getattr(self.prepare, key)
            if size % stride:
                raise ValueError(
                    f"prepare.{key}: expected a multiple of {stride} "
                    f"(model.num_layers = {self.model.num_layers}), got {size}"
                )
        return self


def find_foreign_keys(config: Config, kind: str) -> list[str]:
    """List the settings, by dotted key, that a kind of network would ignore.

    A setting at its default asks for nothing, so that it does not count.
    """
    other = SLICES if kind == WHOLE_HEART else WHOLE_HEART
    defaults = Config.model_construct()
    foreign = []
    for path in ONLY_FOR[other]:
        found: Any = config
        usual: Any = defaults
        for part in path.split("."):
            found, usual = getattr(found, part), getattr(usual, part)
        if isinstance(found, Section):
            foreign += [
                f"{path}.{key}"
                for key in type(found).model_fields
                if getattr(found, key) != getattr(usual, key)
            ]
        elif found != usual:
            foreign.append(path)
    return foreign


def _is_default(kind: str, key: str, value: object) -> bool:
    section = MODEL_SECTIONS[kind]
    try:
        given = getattr(section.model_validate({"kind": kind, key: value}), key)
    except ValidationError:
        return False
    return bool(given == section.model_fields[key].default)
