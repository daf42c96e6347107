"""A data set in any of the usual layouts: its cases, and what the values of its label maps mean.

============ ======================== ======================= ============================
layout       images                   label maps              values of the labels
============ ======================== ======================= ============================
``hvsmr``    ``CASE_cropped_norm``    ``CASE_cropped_seg``    of the label table
``nnunet``   ``imagesTr/CASE_0000``   ``labelsTr/CASE``       by name, ``dataset.json``
``msd``      ``imagesTr/CASE``        ``labelsTr/CASE``       by name, ``dataset.json``
``folders``  ``images/CASE``          ``labels/CASE``         of the label table
============ ======================== ======================= ============================
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heartseg.cohort.cases import CaseFiles, Place, find_cases
from heartseg.cohort.dataset_json import DATASET_JSON, match_labels, read_dataset_json
from heartseg.files import image_stem, list_files, logging_once
from heartseg.labels import LabelTable
from heartseg.plurals import counted
from heartseg.scans.volume import NIFTI_SUFFIXES

IMAGES, LABELS, UNLABELLED_IMAGES = "imagesTr", "labelsTr", "imagesTs"
"""Folders of the Medical Segmentation Decathlon and of nnU-Net."""
CHANNEL = "_0000"
"""What nnU-Net puts behind the case name of an image: the number of its channel."""


@dataclass(frozen=True)
class Naming:
    """How the files of the layouts ``hvsmr`` and ``folders`` are named.

    Attributes:
        image_suffix: What follows the case name of an image, for ``hvsmr``.
        label_suffix: What follows the case name of a label map, for ``hvsmr``.
        endpoints_suffix: What follows the case name of an endpoint map, for ``hvsmr``.
        image_folder: Folder of the images, for ``folders``.
        label_folder: Folder of the label maps, for ``folders``.
    """

    image_suffix: str
    label_suffix: str
    endpoints_suffix: str
    image_folder: str = "images"
    label_folder: str = "labels"


@dataclass(frozen=True)
class DataSet:
    """The files of a data set, found without reading a volume.

    Attributes:
        folder: Where it lies.
        cases: The complete cases, in natural order.
        problems: One message per case that is not complete.
        images: Names of all cases that have an image.
        label_maps: The label maps that have no image, by case name.
        endpoints: The endpoint map of each case that has one.
        table: The label table, with the source values of this data set.
        notices: What a user may not expect of this data set, in words.
    """

    folder: Path
    cases: tuple[CaseFiles, ...]
    problems: tuple[str, ...]
    images: frozenset[str]
    label_maps: Mapping[str, Path]
    endpoints: Mapping[str, Path]
    table: LabelTable
    notices: tuple[str, ...] = field(default=())

    @property
    def label_files(self) -> dict[str, Path]:
        """Every label map, by case name."""
        return {**{case.name: case.label_file for case in self.cases}, **self.label_maps}


@logging_once()
def find_data_set(folder: Path, layout: str, naming: Naming, table: LabelTable) -> DataSet:
    """Find the files of a data set.

    Args:
        folder: The data set.
        layout: ``hvsmr``, ``nnunet``, ``msd`` or ``folders``.
        naming: How its files are named.
        table: The labels. Where a ``dataset.json`` names the labels of the files, they are
            recognised by key or name, whatever their values.

    Raises:
        DataError: If a folder is missing or holds no volumes, or ``dataset.json`` is missing,
            broken, or names labels that are not in the table.
    """
    endpoints: dict[str, Path] = {}
    notices: list[str] = []
    if layout == "hvsmr":
        images, labels = Place(folder, naming.image_suffix), Place(folder, naming.label_suffix)
    elif layout == "folders":
        images, labels = _place_folders(folder, naming)
    else:
        images = Place(folder / IMAGES, CHANNEL if layout == "nnunet" else "")
        labels = Place(folder / LABELS)
        values = read_dataset_json(folder / DATASET_JSON)
        table, missing = match_labels(values, table, source=folder / DATASET_JSON)
        if missing:
            notices.append(
                f"{folder / DATASET_JSON}: has no {', '.join(missing)}, which section labels lists;"
                " no voxel of this data set has these labels"
            )
        notices += _describe_unlabelled(folder)
    cases, problems = find_cases(images, labels)
    if layout == "hvsmr":
        zones = Place(folder, naming.endpoints_suffix).find_volumes()
        endpoints = {name: files[0] for name, files in zones.items()}
    seen = frozenset(images.find_volumes())
    alone = {name: files for name, files in labels.find_volumes().items() if name not in seen}
    return DataSet(
        folder,
        tuple(cases),
        tuple(problems),
        seen,
        {name: files[0] for name, files in alone.items()},
        endpoints,
        table,
        tuple(notices),
    )


def _place_folders(folder: Path, naming: Naming) -> tuple[Place, Place]:
    """Return where images and label maps of equal names lie; images may end in ``_0000``."""
    images, labels = folder / naming.image_folder, folder / naming.label_folder
    stems = [image_stem(file) for file in list_files(images, NIFTI_SUFFIXES)]
    numbered = bool(stems) and all(stem.endswith(CHANNEL) for stem in stems)
    return Place(images, CHANNEL if numbered else ""), Place(labels)


def _describe_unlabelled(folder: Path) -> list[str]:
    """Say that the images of the test part take no part: they have no label maps."""
    tests = folder / UNLABELLED_IMAGES
    count = len(list_files(tests, NIFTI_SUFFIXES)) if tests.is_dir() else 0
    if not count:
        return []
    return [
        f"{tests}: {counted(count, 'image')} without label maps, which take no part; segment them "
        "with `heartseg infer`"
    ]
