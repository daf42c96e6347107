"""The files that a network of whole hearts learns from, found without reading them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heartseg.cohort.cases import find_volumes
from heartseg.cohort.split_record import SPLIT, SplitRecord
from heartseg.config.schema import Config
from heartseg.errors import DataError
from heartseg.files import natural_key
from heartseg.runs.held_out import find_split


@dataclass(frozen=True)
class Part:
    """The files of one part of the split.

    Attributes:
        scans: Image and label map by case.
        label_maps: Label maps that have no image; training only.
    """

    scans: Mapping[str, tuple[Path, Path]]
    label_maps: Mapping[str, Path]

    @property
    def label_files(self) -> dict[str, Path]:
        """The label map of every case."""
        return {**{case: label for case, (_, label) in self.scans.items()}, **self.label_maps}


def find_patient_split(config: Config) -> SplitRecord:
    """Return the split, which must be one by patient.

    Raises:
        DataError: If there is none, or it divides slices.
    """
    split = find_split(config)
    if split.by == "slice":
        raise DataError(
            f"{config.dataset_dir / SPLIT}: expected a split by patient (split.by: patient): "
            "a network that sees whole hearts cannot leave out slices"
        )
    return split


def find_parts(config: Config, cases: Mapping[str, Sequence[str]]) -> tuple[Part, Part]:
    """Return the files of the training and the validation part.

    Raises:
        DataError: If a case has no image or no label map, or two of them.
    """
    data = config.data
    images = find_unique(data.source_dir, data.image_suffix)
    labels = find_unique(data.source_dir, data.label_suffix)
    parts = []
    for name in ("train", "valid"):
        missing = [
            case for case in cases.get(name, ()) if not {case} <= images.keys() & labels.keys()
        ]
        if missing:
            raise DataError(
                f"{data.source_dir}: the split's {', '.join(missing)} lack an image or a label map "
                "there; put them back, or run `heartseg prepare` and `heartseg split` again"
            )
        parts.append({case: (images[case], labels[case]) for case in cases.get(name, ())})
    alone = {name: file for name, file in labels.items() if name not in images}
    if config.synthesis.label_maps_dir is not None:
        others = find_unique(config.synthesis.label_maps_dir, data.label_suffix)
        alone |= {name: file for name, file in others.items() if name not in images}
    named = {case for part in cases.values() for case in part}
    label_maps = {name: alone[name] for name in sorted(alone, key=natural_key) if name not in named}
    return Part(parts[0], label_maps), Part(parts[1], {})


def find_unique(folder: Path, suffix: str) -> dict[str, Path]:
    """Return the file of each case whose name ends in a suffix.

    Raises:
        DataError: If a case has two.
    """
    found = find_volumes(folder, suffix)
    for files in found.values():
        if len(files) > 1:
            raise DataError(f"{files[0]}: the same case is also in {files[1].name}")
    return {name: files[0] for name, files in found.items()}
