"""What 3D Slicer opens: a segmentation with names, colours and terms, and a colour table."""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.exchange.terminology import Concept, concept_of
from heartseg.files import replacing
from heartseg.labels import LabelTable, Structure
from heartseg.scans.provenance import Provenance

SEG_NRRD_SUFFIX = ".seg.nrrd"
COLOR_TABLE_SUFFIX = ".ctbl"
MODEL_FIELD = "heartseg_model"
"""Key of the field that says which model made a segmentation."""
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_CATEGORY = Concept("123037004", "SCT", "Anatomical Structure")
"""Slicer's own lists keep the older code of the category."""
_TERMS = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"


def write_seg_nrrd(
    file: Path,
    labels: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    table: LabelTable,
    structures: Sequence[Structure] | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Write a segmentation for 3D Slicer; equal label maps give equal bytes.

    Every wanted structure is a segment, the absent ones are empty. Segments have the colours for
    people, since they are shown over the scan.

    Args:
        file: Where to; Slicer expects a name that ends in ``.seg.nrrd``.
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres (right, anterior, superior).
        table: Names and colours of the segments.
        structures: The wanted ones; None: all of the table.
        provenance: The model that made the label map.

    Raises:
        DataError: If the file cannot be written, or a label is not in the table.
    """
    table.check_values(labels, source=str(file))
    directions = (_TO_LPS @ affine[:3, :3]).T
    fields = [
        "NRRD0004",
        "type: unsigned char",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(size) for size in labels.shape)}",
        f"space directions: {' '.join(_vector(direction) for direction in directions)}",
        "kinds: domain domain domain",
        "encoding: gzip",
        f"space origin: {_vector(_TO_LPS @ affine[:3, 3])}",
        *_segment_fields(labels, table, structures or table.foreground),
        *([] if provenance is None else [note_model(provenance)]),
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    header = "\n".join(fields) + "\n\n"
    voxels = labels.astype(np.uint8, copy=False).tobytes(order="F")
    with replacing(file) as temporary:
        temporary.write_bytes(
            header.encode("utf-8") + gzip.compress(voxels, compresslevel=6, mtime=0)
        )


def note_model(provenance: Provenance) -> str:
    """Return the line of an NRRD header that says which model made a segmentation."""
    # NRRD doubles backslashes.
    return f"{MODEL_FIELD}:=" + provenance.text.replace("\\", "\\\\")


def read_model(fields: Mapping[str, str]) -> Provenance | None:
    """Return which model made a segmentation; None if the fields of its header do not say."""
    return Provenance.from_text(fields.get(MODEL_FIELD, "").replace("\\\\", "\\"))


def write_slicer_colors(file: Path, table: LabelTable) -> None:
    """Write a colour table for 3D Slicer: the colours for people, and no background.

    Args:
        file: Where to; Slicer expects a name that ends in ``.ctbl``.
        table: Names and colours of the labels.

    Raises:
        DataError: If the file cannot be written.
    """
    lines = [f"# Color table file {file.name}", f"# {table.num_classes} values"]
    for structure in table.structures:
        red, green, blue = table.display_color(structure)
        # Slicer splits a line at blanks and shows underscores as such.
        name = "_".join(structure.name.split())
        lines.append(f"{structure.value} {name} {red} {green} {blue} {255 * (structure.value > 0)}")
    with replacing(file) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _vector(values: NDArray[np.float64]) -> str:
    # The shortest digits that give the same number; 0.0 added turns -0.0 into 0.0.
    return f"({','.join(repr(float(value) + 0.0) for value in values)})"


def _segment_fields(
    labels: NDArray[np.uint8], table: LabelTable, structures: Sequence[Structure]
) -> Iterator[str]:
    extents = _find_extents(labels, max(s.value for s in structures) + 1)
    for index, structure in enumerate(structures):
        concept = concept_of(structure)
        color = " ".join(f"{component / 255:.6g}" for component in table.display_color(structure))
        terms = "~".join((_TERMS, _term(_CATEGORY), _term(concept), "^^", _REGIONS, "^^", "^^"))
        values = {
            "Color": color,
            "ColorAutoGenerated": "0",
            "Extent": " ".join(str(value) for value in extents[structure.value]),
            "ID": structure.key,
            "LabelValue": str(structure.value),
            "Layer": "0",
            "Name": structure.name,
            "NameAutoGenerated": "0",
            "Tags": f"Segmentation.Status:completed|TerminologyEntry:{terms}|",
        }
        for key, value in values.items():
            yield f"Segment{index}_{key}:={' '.join(value.split())}"


def _term(concept: Concept) -> str:
    return f"{concept.scheme}^{concept.value}^{concept.meaning}"


def _find_extents(labels: NDArray[np.uint8], count: int) -> list[list[int]]:
    """Return first and last index along each axis per label; ``0 -1`` where it is absent."""
    from scipy import ndimage

    boxes = ndimage.find_objects(labels, max_label=count - 1)
    empty = [0, -1] * labels.ndim
    found = [
        empty if box is None else [edge for part in box for edge in (part.start, part.stop - 1)]
        for box in boxes
    ]
    return [empty, *found]
