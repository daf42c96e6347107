"""The sections of the configuration: every key, its type, its range, its default."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from heartseg.config.model_sections import (
    MODEL_SECTIONS,
    SLICES,
    WHOLE_HEART,
    ModelConfig,
    SliceModelConfig,
    kind_of,
)
from heartseg.config.section import (
    Byte,
    CaseName,
    FilterCount,
    Fraction,
    GridSide,
    ImageSide,
    Section,
    Seed,
    SheetTiles,
    SourceValue,
    expand_home,
)
from heartseg.errors import ConfigError
from heartseg.label_tables import LABEL_TABLES
from heartseg.labels import HVSMR, LabelTable, Structure
from heartseg.training.losses import LOSSES

if TYPE_CHECKING:
    LossName = str
else:
    LossName = Literal[LOSSES]

MeasureName = Literal[
    "dice",
    "iou",
    "hd95_mm",
    "assd_mm",
    "nsd",
    "precision",
    "recall",
    "volume_prediction_ml",
    "volume_reference_ml",
    "volume_difference_ml",
]
PACKAGED = "packaged"
"""What `train.init` calls the weights that come with the package."""
DEFAULT_PERCENTILES = (0.5, 99.5)
"""What becomes black and white with `prepare.window: percentile`, unless a range is given."""
ONLY_FOR = {
    SLICES: (
        "train.augment",
        "infer.tiled",
        "infer.tile_overlap",
        "infer.batch_size",
        "infer.largest_component",
        "evaluate.batch_size",
    ),
    WHOLE_HEART: ("synthesis", "second_stage", "infer.second_stage"),
}
"""Sections and keys outside of `model` that only one kind of network uses."""
APPLIED = "infer."
"""What the keys begin with that say how a model is applied, wherever it was trained."""


class DataConfig(Section):
    """Where the data lies. Relative paths start at the working directory."""

    source_dir: Path = Path("data/cropped_norm")
    """Folder of the NIfTI volumes: an image and a label map per case."""
    master_dir: Path = Path("data/master")
    """Folder of the prepared slices of all cases."""
    dataset_dir: Path = Path("data/dataset")
    """Folder of the slices by part: train, valid, test."""
    layout: Literal["hvsmr", "nnunet", "msd", "folders"] = "hvsmr"
    """hvsmr: names by suffix. nnunet, msd: imagesTr, labelsTr, dataset.json. folders: two."""
    image_folder: str = "images"
    """Folder of the images below source_dir, for layout: folders."""
    label_folder: str = "labels"
    """Folder of the label maps below source_dir, with names equal to those of the images."""
    image_suffix: str = "_cropped_norm"
    """What follows the case name in the file name of an image, before .nii or .nii.gz."""
    label_suffix: str = "_cropped_seg"
    """What follows the case name in the file name of a label map."""
    endpoints_suffix: str = "_cropped_seg_endpoints"
    """What follows the case name in the file name of an endpoint map."""
    clinical_file: Path | None = None
    """Table of diagnoses (hvsmr_clinical.csv), for a stratified split."""


class PrepareConfig(Section):
    """What happens to a slice before the network, the same in training and inference."""

    plane: Literal["sagittal", "coronal", "axial"] = "sagittal"
    """Anatomical plane of the slices, found from the affine."""
    fit: Literal["stretch", "pad"] = "stretch"
    """stretch: resize to the size, whatever the shape. pad: resample to spacing_mm, pad or crop."""
    image_width: ImageSide = 512
    """Width of a prepared slice in pixels."""
    image_height: ImageSide = 512
    """Height of a prepared slice in pixels."""
    spacing_mm: PositiveFloat = 1.0
    """Pixel size after resampling, for fit: pad."""
    window: Literal["fixed", "percentile"] = "fixed"
    """Whether window_range is in intensities or in percentiles of the volume."""
    window_range: tuple[float, float] = (0.0, 1.0)
    """Intensities that become black and white; percentiles, then by default [0.5, 99.5]."""
    keep_empty: bool = False
    """Whether slices that hold no structure are prepared too."""
    num_samples: SheetTiles = 24
    """Slices on a sample sheet."""

    @model_validator(mode="before")
    @classmethod
    def _percentiles_have_their_own_default(cls, values: Any) -> Any:  # noqa: ANN401 - before types
        if isinstance(values, dict) and values.get("window") == "percentile":
            return {"window_range": DEFAULT_PERCENTILES, **values}
        return values

    @model_validator(mode="after")
    def _window_is_ordered(self) -> "PrepareConfig":
        low, high = self.window_range
        if not low < high:
            raise ValueError(f"window_range: expected low < high, got [{low}, {high}]")
        if self.window == "percentile" and not 0 <= low < high <= 100:
            raise ValueError(f"window_range: expected percentiles in [0, 100], got [{low}, {high}]")
        return self


class SplitConfig(Section):
    """Which cases train, validate and test the model."""

    by: Literal["patient", "slice"] = "patient"
    """patient: no patient is in two parts. slice: the published way, which leaks."""
    train_fraction: Fraction = 0.8
    """Share of the training part."""
    valid_fraction: Fraction = 0.15
    """Share of the validation part; the test part is the rest."""
    seed: Seed = 137
    """Seed of the shuffling."""
    folds: Annotated[int, Field(ge=0)] = 0
    """Number of cross-validation folds (0: one split)."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Which fold is the test part, from 0."""
    train_cases: tuple[CaseName, ...] | None = None
    """Explicit list of training cases; needs the other two lists too."""
    valid_cases: tuple[CaseName, ...] | None = None
    """Explicit list of validation cases."""
    test_cases: tuple[CaseName, ...] | None = None
    """Explicit list of test cases."""

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "SplitConfig":
        if self.train_fraction + self.valid_fraction > 1:
            raise ValueError("train_fraction + valid_fraction: expected at most 1")
        if self.folds == 1 or (self.folds and self.fold >= self.folds):
            raise ValueError(
                "fold: expected 0 <= fold < folds and folds of at least 2 (or 0), got "
                f"fold {self.fold} of {self.folds}"
            )
        lists = [self.train_cases, self.valid_cases, self.test_cases]
        if any(entry is not None for entry in lists):
            if any(entry is None for entry in lists):
                raise ValueError("train_cases, valid_cases, test_cases: give all three or none")
            if self.by == "slice" or self.folds:
                raise ValueError("explicit case lists go with by: patient and folds: 0")
        return self


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


class EvaluateConfig(Section):
    """How predictions are scored."""

    batch_size: PositiveInt = 8
    """Slices predicted at once."""
    num_bootstrap: PositiveInt = 2000
    """Resamples of the patients for a confidence interval."""
    tolerance_mm: PositiveFloat = 2.0
    """Distance within which surfaces count as equal (normalised surface Dice)."""
    seed: Seed = 137
    """Seed of the bootstrap."""
    table_measures: Annotated[tuple[MeasureName, ...], Field(min_length=1)] = (
        "dice",
        "hd95_mm",
        "assd_mm",
        "nsd",
    )
    """Measures in table.md and table.tex, in this order; summary.csv has all."""
    figures: Literal["none", "svg", "pdf"] = "none"
    """Whether the figures of the report are also written as files, for print."""


class InferConfig(Section):
    """What is predicted, and what is written beside the label maps."""

    runtime: Literal["auto", "tensorflow", "onnx", "openvino"] = "auto"
    """What computes: onnx for the packaged model and ONNX files, Keras for a model of a run."""
    images_dir: Path | None = None
    """Folder whose slices and volumes are segmented when no input is given."""
    output_dir: Path | None = None
    """Where results go; the default is RUN_DIR/inference."""
    batch_size: PositiveInt = 8
    """Slices predicted at once."""
    outputs: tuple[str, ...] = ("label_map", "preview", "numbers")
    """Files that are written for a volume: label_map, preview, numbers, report, movie_webm,
    movie_gif, movie_mp4, surfaces, slicer, split, suggestion, dicom_seg (of DICOM only)."""
    structures: tuple[str, ...] | None = None
    """Keys of the structures that every result is about; none: all."""
    diameters: bool = False
    """Whether surface areas and diameters of vessels are measured; so they are with the outputs
    report and surfaces."""
    height_cm: float | None = None
    """Height of the patient, with weight_kg: volumes are also given per body surface area."""
    weight_kg: float | None = None
    """Weight of the patient."""
    bsa_m2: float | None = None
    """Body surface area of the patient, in place of height and weight."""
    overlay: bool = False
    """Whether the labels are also drawn over a picture."""
    movie: Literal["none", "webm", "gif", "mp4"] = "none"
    """Whether a volume's overlay is also written as a movie; webm and gif play in browsers."""
    absent: tuple[str, ...] = ()
    """Structures that the patient does not have, such as [RV, RA]; they are never labelled."""
    diagnosis: tuple[str, ...] = ()
    """Diagnoses in the terms of HVSMR-2.0, such as [single ventricle]; what is absent follows."""
    hints: Path | None = None
    """CSV with the columns case and absent, diagnosis or both: what is known of each case. A case
    with a row there does not take `absent` and `diagnosis`."""
    tiled: bool = False
    """Whether slices larger than the network are cut into overlapping tiles at their own size."""
    tile_overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Overlap of neighbouring tiles as a share of their side."""
    second_stage: bool = True
    """Whether the second stage of a model that has one corrects the labels."""
    largest_component: bool = False
    """Whether only the largest connected piece of each structure keeps its name in a volume."""


class ParallelConfig(Section):
    """How work is spread over processes and machines."""

    jobs: int = -1
    """Processes that work on cases at once; -1 is one per core."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|gpu|gpu:[0-9]{1,3})$")] = "auto"
    """What the network computes on: cpu, gpu, gpu:N, or auto (a GPU if the library can use one)."""
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    """Threads of the processor that the network computes with; 0 is one per core."""
    backend: Literal["loky", "multiprocessing", "threading", "dask"] = "loky"
    """Backend of joblib for work on cases; dask: the workers of a cluster."""
    address: str | None = None
    """Where the scheduler of the Dask cluster listens: HOST:PORT, for backend: dask."""
    folds: PositiveInt | None = None
    """Folds of a study that train at once on this machine; none: one per GPU, else one."""
    num_processes: PositiveInt = 1
    """Processes that train one network together, as a rule one a host; several need JAX."""
    process_index: Annotated[int, Field(ge=0)] = 0
    """Which of them this is, from 0; the first one writes the files."""
    coordinator: str | None = None
    """Where they meet: HOST:PORT, a free port of the first one's host."""

    @field_validator("address", "coordinator")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        host, _, port = (value or "host:1").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError("expected HOST:PORT, such as node01:8786")
        return value

    @model_validator(mode="after")
    def _addresses_are_there(self) -> "ParallelConfig":
        if self.backend == "dask" and self.address is None:
            raise ValueError("backend: dask needs address, the HOST:PORT of the scheduler")
        if self.num_processes > 1 and self.coordinator is None:
            raise ValueError("num_processes: several need coordinator, HOST:PORT of the first")
        if self.process_index >= self.num_processes:
            raise ValueError(
                f"process_index: expected less than num_processes ({self.num_processes}), got "
                f"{self.process_index}"
            )
        return self


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
