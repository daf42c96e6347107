"""A label map from any format: NIfTI, DICOM SEG, NRRD (3D Slicer's too), MetaImage or MGH."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.exchange.dicom_seg import read_dicom_seg
from heartseg.exchange.grids import place_labels
from heartseg.exchange.slicer import read_model
from heartseg.exchange.terminology import find_structure
from heartseg.labels import LabelTable
from heartseg.scans.nrrd import NRRD_SUFFIXES, read_nrrd_with_fields
from heartseg.scans.provenance import note_provenance
from heartseg.scans.reading import read_plain
from heartseg.scans.volume import (
    UNLABELLED,
    Volume,
    as_labels,
    build_volume,
    check_labels,
    is_nifti,
    read_label_map,
)

_DICOM_SUFFIXES = (".dcm", ".dicom")
_SLICER_SUFFIXES = tuple(f".seg{suffix}" for suffix in NRRD_SUFFIXES)
_OFFSET_FIELD = "Segmentation_ReferenceImageExtentOffset"
"""Where in its scan a segmentation of 3D Slicer begins; only one that was cut begins later."""
_LABEL_VALUE = re.compile(r"Segment(\d{1,4})_LabelValue")
_TERM = re.compile(r"TerminologyEntry:[^~|]*~[^~|]*~[^~|^]*\^([^~|^]*)\^([^~|^]*)")


@dataclass(frozen=True)
class _Segment:
    """A segment of 3D Slicer.

    Attributes:
        code: Value of its code; empty if it has none.
        names: Its name first, and what else it is called.
    """

    code: str
    names: tuple[str, ...]


def read_labels(
    file: Path,
    table: LabelTable,
    *,
    partial: bool = False,
    mapping: Mapping[int, int] | None = None,
    like: Volume | None = None,
) -> Volume:
    """Read a label map of any format.

    Values are labels, except in DICOM SEG and in segmentations of 3D Slicer, whose segments are
    recognised by their SNOMED CT code, else by their name.

    Args:
        file: A NIfTI, NRRD (``.seg.nrrd`` too), MetaImage, MGH or DICOM SEG file.
        table: The labels that may occur.
        partial: Whether ``UNLABELLED`` may occur too, where nobody drew yet.
        mapping: Label of the table by value in the file, where values are labels; values that are
            not named stay.
        like: The scan on whose grid the label map is wanted; its voxels may be stored along other
            axes, and the label map may be cut to what is labelled. None: the grid of the file.

    Returns:
        The label map; ``voxels`` is uint8.

    Raises:
        DataError: If the file is missing, broken, too large, not 3D, holds a value or segment that
            is no label, or its voxels are not those of ``like``.
    """
    name = file.name.lower()
    if name.endswith(_DICOM_SUFFIXES):
        return read_dicom_seg(file, table, like=like)
    if is_nifti(file):
        volume = read_label_map(file, table, partial=partial, mapping=mapping)
    else:
        stored, segments = _read_stored(file)
        voxels = stored.voxels
        if segments:
            voxels = _rename(
                as_labels(voxels, source=str(file)), table, file, segments, partial=partial
            )
        labels = check_labels(
            voxels, table, source=str(file), partial=partial, mapping=None if segments else mapping
        )
        header = stored.header.copy()
        header.set_data_dtype(np.uint8)
        volume = Volume(labels, stored.affine, header)
    if like is None:
        return volume
    shape = like.voxels.shape
    placed = place_labels(
        volume.voxels, volume.affine, shape=shape, target=like.affine, source=str(file)
    )
    return Volume(placed, like.affine, like.header)


def may_be_cut(file: Path) -> bool:
    """Tell whether a label map may cover a part of its scan, outside of which nothing is labelled.

    It may in DICOM SEG, which has no frames without labels, and in segmentations of 3D Slicer.
    """
    return file.name.lower().endswith((*_DICOM_SUFFIXES, *_SLICER_SUFFIXES))


def read_labels_with_room(file: Path, table: LabelTable) -> Volume:
    """Read a label map, with background around it where the file may end before its scan does.

    What is labelled then reaches the border of the result only where the scan ends: a DICOM SEG
    holds no slice beyond the labelled ones, and 3D Slicer may cut a segmentation on all sides.

    Returns:
        The label map, with one more voxel at both ends of the axes that may be cut.

    Raises:
        DataError: As ``read_labels``.
    """
    volume = read_labels(file, table)
    room = np.array(_find_cut_axes(file), dtype=int)
    if not room.any():
        return volume
    affine = volume.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ room
    voxels = np.pad(volume.voxels, [(side, side) for side in room])
    return build_volume(voxels, affine, source=str(file))


def _find_cut_axes(file: Path) -> tuple[int, int, int]:
    """Return 1 for the axes along which a label map may end before its scan does, else 0."""
    name = file.name.lower()
    if name.endswith(_DICOM_SUFFIXES):
        return 0, 0, 1
    if name.endswith(_SLICER_SUFFIXES):
        _, fields = read_nrrd_with_fields(file)
        if set(fields.get(_OFFSET_FIELD, "0").split()) != {"0"}:
            return 1, 1, 1
    return 0, 0, 0


def _read_stored(file: Path) -> tuple[Volume, Mapping[int, _Segment]]:
    """Read a file that is neither NIfTI nor DICOM, and what it says of its segments."""
    if not file.name.lower().endswith(NRRD_SUFFIXES):
        return read_plain(file), {}
    stored, fields = read_nrrd_with_fields(file)
    maker = read_model(fields)
    if maker is not None:
        note_provenance(stored.header, maker)
    return stored, _find_segments(fields)


def _find_segments(fields: Mapping[str, str]) -> dict[int, _Segment]:
    """Return the segments of 3D Slicer by the value of their voxels."""
    segments: dict[int, _Segment] = {}
    for key, value in fields.items():
        match = _LABEL_VALUE.fullmatch(key)
        if match and value.strip().isdecimal():
            prefix = f"Segment{match[1]}_"
            term = _TERM.search(fields.get(f"{prefix}Tags", ""))
            code, meaning = term.groups() if term else ("", "")
            names = (fields.get(f"{prefix}Name", ""), fields.get(f"{prefix}ID", ""), meaning)
            segments[int(value)] = _Segment(code, names)
    return segments


def _rename(
    voxels: NDArray[np.integer],
    table: LabelTable,
    file: Path,
    segments: Mapping[int, _Segment],
    *,
    partial: bool,
) -> NDArray[np.uint8]:
    """Give the voxels of each segment the label of its structure."""
    labels = np.zeros(voxels.shape, np.uint8)
    for value in np.unique(voxels[voxels != 0]):
        segment = segments.get(int(value), _Segment("", (f"value {value}",)))
        if partial and _is_unknown(int(value), segment):
            labels[voxels == value] = UNLABELLED
            continue
        structure = find_structure(table, code=segment.code, texts=segment.names)
        if structure is None:
            raise DataError(
                f"{file}: the segment {segment.names[0]!r} is none of the structures "
                f"{', '.join(s.key for s in table.foreground)} by its code or name"
            )
        labels[voxels == value] = structure.value
    return labels


def _is_unknown(value: int, segment: _Segment) -> bool:
    """Return whether a segment marks what nobody drew: 3D Slicer makes one of the value 255."""
    names = {name.strip().casefold() for name in segment.names}
    digits = {"".join(c for c in name if c.isdigit()) for name in names if name}
    return bool(names & {"unknown", "unlabelled"}) or (
        value == UNLABELLED or (str(UNLABELLED) in digits)
    )
