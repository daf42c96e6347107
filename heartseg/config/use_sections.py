"""The sections of the configuration that say how models are used, and on which machines."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from heartseg.config.section import Section, Seed

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
    """Whether each structure of a volume keeps its largest connected component, and others half as
    large."""


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
