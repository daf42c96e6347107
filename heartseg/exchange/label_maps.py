"""A label map from any format: NIfTI, DICOM SEG, NRRD (3D Slicer's too), MetaImage or MGH."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.exchange.dicom_seg import read_dicom_seg
from heartseg.exchange.grids import place_labels
from heartseg.exchange.terminology import find_structure
from heartseg.labels import LabelTable
from heartseg.scans.nrrd import NRRD_SUFFIXES, read_nrrd_with_fields
from heartseg.scans.reading import SCAN_SUFFIXES, read_plain
from heartseg.scans.volume import UNLABELLED, Volume, as_labels, is_nifti, read_label_map

LABEL_MAP_SUFFIXES = tuple(suffix for suffix in SCAN_SUFFIXES if suffix not in (".zip", ".ima"))
"""How the names of label maps end, in small letters."""
_SEG_SUFFIXES = (".dcm", ".dicom")
_LABEL_VALUE = re.compile(r"Segment(\d{1,4})_LabelValue")
_TERM = re.compile(r"TerminologyEntry:[^~|]*~[^~|]*~[^~|^]*\^([^~|^]*)\^([^~|^]*)")


def read_labels(
    file: Path, table: LabelTable, *, partial: bool = False, like: Volume | None = None
) -> Volume:
    """Read a label map of any format.

    Values are labels, except in DICOM SEG and in segmentations of 3D Slicer, whose segments are
    recognised by their SNOMED CT code, else by their name.

    Args:
        file: A NIfTI, NRRD (``.seg.nrrd`` too), MetaImage, MGH or DICOM SEG file.
        table: The labels that may occur.
        partial: Whether ``UNLABELLED`` may occur too, where nobody drew yet.
        like: The scan on whose grid the label map is wanted; its voxels may be stored along other
            axes, and the label map may be cut to what is labelled. None: the grid of the file.

    Returns:
        The label map; ``voxels`` is uint8.

    Raises:
        DataError: If the file is missing, broken, too large, not 3D, holds a value or segment that
            is no label, or its voxels are not those of ``like``.
    """
    name = file.name.lower()
    if name.endswith(_SEG_SUFFIXES):
        return read_dicom_seg(file, table, like=like)
    if is_nifti(file):
        volume = read_label_map(file, table, partial=partial)
    elif name.endswith(NRRD_SUFFIXES):
        stored, fields = read_nrrd_with_fields(file)
        volume = _check(stored, table, file, partial=partial, values=_segment_values(fields))
    else:
        volume = _check(read_plain(file), table, file, partial=partial, values={})
    if like is None:
        return volume
    shape = like.voxels.shape
    placed = place_labels(
        volume.voxels, volume.affine, shape=shape, target=like.affine, source=str(file)
    )
    return Volume(placed, like.affine, like.header)


def _check(
    stored: Volume,
    table: LabelTable,
    file: Path,
    *,
    partial: bool,
    values: Mapping[int, tuple[str, tuple[str, ...]]],
) -> Volume:
    """Turn the values of a file into labels of the table."""
    voxels = as_labels(stored.voxels, source=str(file))
    if values:
        voxels = _rename(voxels, table, file, values)
    known = np.where(voxels == UNLABELLED, 0, voxels) if partial else voxels
    table.check_values(known, source=str(file))
    header = stored.header.copy()
    header.set_data_dtype(np.uint8)
    return Volume(voxels.astype(np.uint8), stored.affine, header)


def _segment_values(fields: Mapping[str, str]) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Return code and names of each segment of 3D Slicer, by the value of its voxels."""
    segments: dict[int, tuple[str, tuple[str, ...]]] = {}
    for key, value in fields.items():
        match = _LABEL_VALUE.fullmatch(key)
        if match and value.strip().isdecimal():
            prefix = f"Segment{match[1]}_"
            term = _TERM.search(fields.get(f"{prefix}Tags", ""))
            names = (fields.get(f"{prefix}Name", ""), fields.get(f"{prefix}ID", ""))
            code, meaning = term.groups() if term else ("", "")
            segments[int(value)] = (code, (*names, meaning))
    return segments


def _rename(
    voxels: NDArray[np.integer],
    table: LabelTable,
    file: Path,
    values: Mapping[int, tuple[str, tuple[str, ...]]],
) -> NDArray[np.uint8]:
    labels = np.zeros(voxels.shape, np.uint8)
    for value in np.unique(voxels[voxels != 0]):
        code, names = values.get(int(value), ("", ()))
        structure = find_structure(table, code=code, texts=names)
        if structure is None:
            raise DataError(
                f"{file}: the segment {names[0] if names else int(value)!r} is none of the "
                f"structures {', '.join(s.key for s in table.foreground)} by its code or name"
            )
        labels[voxels == value] = structure.value
    return labels
