"""The files that a network of whole hearts learns from, found without reading them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heartseg.cohort.cases import find_volumes
from heartseg.cohort.data_set import DataSet
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


def find_parts(
    config: Config, source: DataSet, cases: Mapping[str, Sequence[str]]
) -> tuple[Part, Part]:
    """Return the files of the training and the validation part.

    Args:
        config: Uses ``synthesis.label_maps_dir``, and ``data`` for the names of its files.
        source: The data set.
        cases: Names of the cases of each part.

    Raises:
        DataError: If a case has no image or no label map, or two of them.
    """
    complete = {case.name: (case.image_file, case.label_file) for case in source.cases}
    parts = []
    for name in ("train", "valid"):
        missing = [case for case in cases.get(name, ()) if case not in complete]
        if missing:
            raise DataError(
                f"{source.folder}: the split's {', '.join(missing)} lack an image or a label map "
                "there, or have two; put one of each back, or run `heartseg prepare` and "
                "`heartseg split` again"
            )
        parts.append({case: complete[case] for case in cases.get(name, ())})
    alone = dict(source.label_maps)
    if config.synthesis.label_maps_dir is not None:
        others = _find_label_maps(config, config.synthesis.label_maps_dir)
        alone |= {name: file for name, file in others.items() if name not in source.images}
    named = {case for part in cases.values() for case in part}
    label_maps = {name: alone[name] for name in sorted(alone, key=natural_key) if name not in named}
    return Part(parts[0], label_maps), Part(parts[1], {})


def _find_label_maps(config: Config, folder: Path) -> dict[str, Path]:
    """Return the label map of each case of a folder that holds no images.

    Raises:
        DataError: If a case has two.
    """
    suffix = config.data.label_suffix if config.data.layout == "hvsmr" else ""
    found = find_volumes(folder, suffix)
    for files in found.values():
        if len(files) > 1:
            raise DataError(f"{files[0]}: the same case is also in {files[1].name}")
    return {name: files[0] for name, files in found.items()}
