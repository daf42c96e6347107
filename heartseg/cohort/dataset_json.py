"""``dataset.json`` of nnU-Net and of the Medical Segmentation Decathlon."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heartseg.errors import DataError
from heartseg.files import read_json
from heartseg.label_tables import find_structure
from heartseg.labels import LabelTable
from heartseg.scans.volume import NIFTI_SUFFIXES

DATASET_JSON = "dataset.json"
BACKGROUND = "background"
IGNORE = "ignore"
"""nnU-Net's label of voxels that nobody has labelled."""


def read_dataset_json(file: Path) -> dict[str, int]:
    """Read what the label maps hold, from nnU-Net's form or the Decathlon's.

    Returns:
        Value in the label maps by name of the label, the background included.

    Raises:
        DataError: If the file is missing or broken, images have several channels or are not NIfTI,
            or labels are no single whole numbers.
    """
    if not file.is_file():
        raise DataError(
            f"{file}: no such file; it says what the label values mean. Without one, use "
            "data.layout: folders with data.image_folder and data.label_folder"
        )
    content = read_json(file)
    channels = content.get("channel_names", content.get("modality")) or {}
    if isinstance(channels, Mapping) and len(channels) > 1:
        raise DataError(
            f"{file}: expected images of one channel, found {len(channels)} "
            f"({', '.join(str(name) for name in channels.values())}); heartseg reads one image per "
            "case. Copy one channel of each case to another folder"
        )
    ending = content.get("file_ending", NIFTI_SUFFIXES[-1])
    if ending not in NIFTI_SUFFIXES:
        raise DataError(
            f"{file}: expected the file_ending {' or '.join(NIFTI_SUFFIXES)}, found {ending!r}; "
            "convert the images and label maps to NIfTI"
        )
    return _read_labels(content.get("labels"), file)


def _read_labels(labels: Any, file: Path) -> dict[str, int]:  # noqa: ANN401 - JSON holds anything
    """Return values by name; nnU-Net writes name: value, the Decathlon value: name."""
    if not isinstance(labels, Mapping) or not labels:
        raise DataError(f"{file}: expected the labels with their values, found none")
    values: dict[str, int] = {}
    for key, entry in labels.items():
        swapped = isinstance(entry, str) and str(key).isdecimal()
        name, value = (entry, key) if swapped else (key, entry)
        if isinstance(value, Sequence) and not isinstance(value, str):
            raise DataError(
                f"{file}: the label {name!r} is a region of the values {list(value)}; expected one "
                "value per label, since structures of heartseg do not overlap"
            )
        if isinstance(value, bool) or not str(value).isdecimal():
            raise DataError(f"{file}: the label {name!r}: expected a whole number, found {value!r}")
        if name.casefold() == IGNORE:
            raise DataError(
                f"{file}: has a label {name!r} of voxels that nobody labelled, which heartseg does "
                "not read from this layout. In the layout hvsmr such voxels have the value 255"
            )
        values[name] = int(value)
    return values


def match_labels(
    values: Mapping[str, int], table: LabelTable, *, source: Path
) -> tuple[LabelTable, list[str]]:
    """Find the structure of each label of a data set by its name, whatever its value.

    Args:
        values: Value by name, of the labels of the data set.
        table: The structures that are known.
        source: The file that names them, for errors.

    Returns:
        The table with the source values of the data set, and the keys of structures that the data
        set lacks.

    Raises:
        DataError: If a name is not known, or two names mean one structure.
    """
    found: dict[str, tuple[int, ...]] = {}
    unknown: list[str] = []
    for name, value in values.items():
        is_background = value == 0 or name.casefold() == BACKGROUND
        structure = table.structures[0] if is_background else find_structure(table, name)
        if structure is None:
            unknown.append(f"{name!r} ({value})")
        elif structure.key in found:
            raise DataError(f"{source}: two labels mean {structure.key}, one of them {name!r}")
        else:
            found[structure.key] = (value,)
    if unknown:
        known = ", ".join(f"{s.key} ({s.name})" for s in table.foreground)
        raise DataError(
            f"{source}: the label{'s' if len(unknown) > 1 else ''} {', '.join(unknown)} "
            f"{'are' if len(unknown) > 1 else 'is'} not among the structures {known}. List the "
            "structures of the data set in section labels, under these names or keys, or choose a "
            "ready table such as labels: acdc"
        )
    missing = [s.key for s in table.foreground if s.key not in found]
    return table.stored_as(found), missing


def describe_for_nnunet(table: LabelTable, num_cases: int, *, sheared: bool) -> dict[str, Any]:
    """Return the ``dataset.json`` that nnU-Net v2 expects beside ``imagesTr`` and ``labelsTr``.

    Args:
        table: The labels, whose values are those of the label maps.
        num_cases: Number of cases.
        sheared: Whether a case has axes that are not perpendicular: nnU-Net's usual reader, which
            uses SimpleITK, refuses those.

    References:
        Isensee et al. (2021). Nature Methods 18. https://doi.org/10.1038/s41592-020-01008-z
    """
    described: dict[str, Any] = {
        "channel_names": {"0": "MRI"},
        "labels": {BACKGROUND: 0, **{s.key: s.value for s in table.foreground}},
        "numTraining": num_cases,
        "file_ending": NIFTI_SUFFIXES[-1],
    }
    if sheared:
        described["overwrite_image_reader_writer"] = "NibabelIO"
    return described


def describe_for_decathlon(
    table: LabelTable, files: Sequence[tuple[str, str]], *, name: str
) -> dict[str, Any]:
    """Return the ``dataset.json`` of the Medical Segmentation Decathlon.

    Args:
        table: The labels, whose values are those of the label maps.
        files: Image and label map of each case, relative to the folder.
        name: Name of the data set.

    References:
        Antonelli et al. (2022). Nature Communications 13.
        https://doi.org/10.1038/s41467-022-30695-9
    """
    return {
        "name": name,
        "description": "",
        "reference": "",
        "licence": "",
        "release": "",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": BACKGROUND, **{str(s.value): s.name for s in table.foreground}},
        "numTraining": len(files),
        "numTest": 0,
        "training": [{"image": f"./{image}", "label": f"./{label}"} for image, label in files],
        "test": [],
    }
