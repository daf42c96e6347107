"""DICOM SEG: a label map as a DICOM object that refers to the series it was made of.

Here, and nowhere else, heartseg writes what identifies a patient: the standard wants name,
identifier and study of the source in every object derived from it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg import __version__
from heartseg.errors import DataError
from heartseg.exchange.grids import place_labels
from heartseg.exchange.structure_files import choose_structures
from heartseg.exchange.terminology import (
    ANATOMICAL_STRUCTURE,
    Concept,
    concept_of,
    find_structure,
)
from heartseg.files import replacing
from heartseg.labels import LabelTable, Structure
from heartseg.scans.dicom import read_headers
from heartseg.scans.dicom_files import MAX_FILE_BYTES, looks_like_dicom, unreadable
from heartseg.scans.dicom_frames import Frame
from heartseg.scans.dicom_series import Series
from heartseg.scans.dicom_stack import Stack
from heartseg.scans.optional import import_dicom_library
from heartseg.scans.volume import Volume, build_volume, check_grid

DICOM_SEG_SUFFIX = ".seg.dcm"
_SERIES_OFFSET = 1000
"""Added to the number of the source series, so that a viewer lists both."""
_OPTIONAL_TEXTS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
"""May be empty in DICOM but not missing; anonymising programs remove them."""
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_dicom_seg(
    file: Path,
    labels: NDArray[np.uint8],
    *,
    affine: NDArray[np.float64],
    series: Series,
    table: LabelTable,
    keys: Sequence[str] | None = None,
    algorithm: str = "heartseg",
    version: str = __version__,
) -> None:
    """Write a DICOM SEG that refers to the images of a series.

    Every structure of the table is a segment, whose number is its label; the absent ones are
    empty. Frames without any voxel of a segment are left out.

    Args:
        file: Where to.
        labels: ``(X, Y, Z)`` label map on the grid of the series; its axes may be turned.
        affine: ``(4, 4)`` from voxel indices to millimetres (right, anterior, superior).
        series: The series that was segmented.
        table: Names and colours of the labels.
        keys: Keys of the structures that are wanted, numbered from 1; None: all.
        algorithm: What made the label map, for a reader of the file.
        version: Its version.

    Raises:
        DataError: If the file cannot be written, the label map does not lie on the grid of the
            series or holds none of the structures, or the series lacks what a DICOM SEG needs.
    """
    source = f"{series.path}: {series.label}"
    if series.stack is None:
        raise DataError(f"{source}: {series.problem}")
    table.check_values(labels, source=str(file))
    structures = choose_structures(table, keys)
    placed = place_labels(
        labels, affine, shape=series.stack.shape, target=series.stack.affine, source=str(file)
    )
    numbers = np.zeros(table.num_classes, np.uint8)
    numbers[[structure.value for structure in structures]] = np.arange(1, len(structures) + 1)
    segments = numbers[placed]
    if not segments.any():
        raise DataError(
            f"{file}: a DICOM SEG needs at least one labelled voxel; the label map has none of "
            f"{', '.join(structure.key for structure in structures)}"
        )
    images = read_headers(series)
    _complete(images, source)
    try:
        segmentation = _build(
            images, segments, series, structures, algorithm=algorithm, version=version
        )
    except unreadable() as error:
        # The texts of these errors may quote a header.
        raise DataError(
            f"{source}: its headers lack what a DICOM SEG needs, or hold broken values "
            f"({type(error).__name__})"
        ) from None
    with replacing(file) as temporary:
        segmentation.save_as(temporary)


def read_dicom_seg(file: Path, table: LabelTable, *, like: Volume | None = None) -> Volume:
    """Read a DICOM SEG of any program as a label map.

    Segments are recognised by their SNOMED CT code, else by their name.

    Args:
        file: A DICOM SEG whose frames are parallel slices at even distances.
        table: The structures that may occur.
        like: The scan on whose grid the label map is wanted; None: the slices of the file, from
            the first to the last that holds a segment.

    Returns:
        The label map; ``voxels`` is uint8.

    Raises:
        DataError: If the file is missing, broken, no DICOM SEG, too large, its segments overlap or
            are none of the table, or its voxels are not those of ``like``.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    seg = import_dicom_library("highdicom.seg")
    with file.open("rb") as stream:
        is_dicom = looks_like_dicom(stream.read(132))
    if not is_dicom or file.stat().st_size > MAX_FILE_BYTES:
        raise DataError(f"{file}: not a DICOM file, or larger than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        segmentation = seg.segread(file)
        values = _match_segments(segmentation, table, file)
        geometry = segmentation.get_volume_geometry()
        if geometry is None:
            raise DataError(f"{file}: its frames are not parallel slices at even distances")
        # Slices, rows, columns turned into columns, rows, slices; and the slices, which highdicom
        # stacks against their normal, into the order of a series.
        shape = tuple(int(size) for size in geometry.spatial_shape[::-1])
        affine = _TO_LPS @ geometry.affine[:, [2, 1, 0, 3]]
        affine[:3, 3] += affine[:3, 2] * (shape[2] - 1)
        affine[:3, 2] *= -1
        check_grid(shape, np.dtype(np.uint8), source=str(file), most=2**62)
        numbered = segmentation.get_volume(combine_segments=True, dtype=np.uint16).array
    except unreadable() as error:
        raise DataError(
            f"{file}: not a readable DICOM SEG without overlaps ({type(error).__name__})"
        ) from None
    labels = values[numbered[::-1]].transpose(2, 1, 0)
    if like is None:
        return build_volume(labels, affine, source=str(file))
    placed = place_labels(
        labels, affine, shape=like.voxels.shape, target=like.affine, source=str(file)
    )
    return Volume(placed, like.affine, like.header)


def _complete(images: Sequence[Any], source: str) -> None:
    """Add what may be empty but not missing, or raise ``DataError`` for what must be there."""
    for image in images:
        for keyword in _OPTIONAL_TEXTS:
            if keyword not in image:
                setattr(image, keyword, "")
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
            if not image.get(keyword):
                raise DataError(f"{source}: its headers have no {keyword}")
        if not image.get("FrameOfReferenceUID"):
            raise DataError(f"{source}: its headers have no FrameOfReferenceUID")


def _build(
    images: Sequence[Any],
    segments: NDArray[np.uint8],
    series: Series,
    structures: Sequence[Structure],
    *,
    algorithm: str,
    version: str,
) -> Any:  # noqa: ANN401 - highdicom's Segmentation
    highdicom = import_dicom_library("highdicom")
    seg = import_dicom_library("highdicom.seg")
    stack = series.stack
    if stack is None:
        raise TypeError("a series that is refused has no grid")
    is_multiframe = len(images) < len(stack.frames) or "NumberOfFrames" in images[0]
    frames = segments.transpose(2, 1, 0)
    positions = {}
    if not is_multiframe:
        sources, further = list(images), None
    else:
        sources, further = list(images[:1]), list(images[1:]) or None
        positions = _place_frames(stack)
    return seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(number, structure, algorithm=algorithm, version=version)
            for number, structure in enumerate(structures, start=1)
        ],
        series_instance_uid=highdicom.UID(),
        series_number=series.number + _SERIES_OFFSET,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="heartseg",
        manufacturer_model_name="heartseg",
        software_versions=version,
        device_serial_number="0",
        content_label="WHOLE_HEART",
        content_description="Whole-heart segmentation, for research only",
        series_description="Whole-heart segmentation",
        further_source_images=further,
        **positions,
    )


def _place_frames(stack: Stack) -> dict[str, Any]:
    """Say where the slices lie, for files whose frames are in another order."""
    highdicom = import_dicom_library("highdicom")
    first: Frame = stack.frames[0]
    step = float(np.linalg.norm(stack.affine[:3, 2]))
    return {
        "plane_positions": [
            highdicom.PlanePositionSequence("PATIENT", frame.position_mm) for frame in stack.frames
        ],
        "plane_orientation": highdicom.PlaneOrientationSequence("PATIENT", first.orientation),
        "pixel_measures": highdicom.PixelMeasuresSequence(
            pixel_spacing=first.spacing_mm, slice_thickness=step, spacing_between_slices=step
        ),
    }


def _describe(number: int, structure: Structure, *, algorithm: str, version: str) -> Any:  # noqa: ANN401
    highdicom = import_dicom_library("highdicom")
    seg = import_dicom_library("highdicom.seg")
    codes = import_dicom_library("pydicom.sr.codedict").codes
    return seg.SegmentDescription(
        segment_number=number,
        segment_label=structure.name[:64],
        segmented_property_category=_code(ANATOMICAL_STRUCTURE),
        segmented_property_type=_code(concept_of(structure)),
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=algorithm,
            family=codes.cid7162.ArtificialIntelligence,
            version=version,
        ),
        tracking_uid=highdicom.UID(),
        tracking_id=structure.key,
        display_color=import_dicom_library("highdicom.color").CIELabColor.from_rgb(
            *structure.color
        ),
    )


def _code(concept: Concept) -> Any:  # noqa: ANN401 - pydicom's Code
    coding = import_dicom_library("pydicom.sr.coding")
    return coding.Code(concept.value, concept.scheme, concept.meaning)


def _match_segments(
    segmentation: Any,  # noqa: ANN401 - highdicom's Segmentation
    table: LabelTable,
    file: Path,
) -> NDArray[np.uint8]:
    """Return the label of each segment number, ``(65536,)``."""
    values = np.zeros(2**16, np.uint8)
    for number in segmentation.segment_numbers:
        segment = segmentation.get_segment_description(number)
        concept = segment.segmented_property_type
        structure = find_structure(
            table, code=str(concept.value), texts=(str(segment.segment_label), concept.meaning)
        )
        if structure is None:
            raise DataError(
                f"{file}: segment {number} is none of the structures "
                f"{', '.join(known.key for known in table.foreground)} by its code or name"
            )
        values[number] = structure.value
    return values
