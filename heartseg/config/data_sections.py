"""The sections of the configuration that say where data lie and how they are cut and divided."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from heartseg.config.section import (
    CaseName,
    Fraction,
    ImageSide,
    Section,
    Seed,
    SheetTiles,
)

DEFAULT_PERCENTILES = (0.5, 99.5)
"""What becomes black and white with `prepare.window: percentile`, unless a range is given."""


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
