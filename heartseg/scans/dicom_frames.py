"""What a DICOM header says about its images: where each lies, and how its values are scaled.

Single-frame files state it once; enhanced multi-frame files state it in functional groups, for all
frames together or for each.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from heartseg.errors import DataError
from heartseg.scans.dicom_files import unreadable

_IDENTITY = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "OtherPatientIDs",
    "PatientBirthName",
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
)
"""Values that may not be repeated in a message or a file name."""
_MIN_IDENTITY = 3
"""Shorter parts of names are found in any text."""
HEADER_TAGS: tuple[str | int, ...] = (
    *_IDENTITY,
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "ImageType",
    "FrameOfReferenceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "RealWorldValueMappingSequence",
    "ModalityLUTSequence",
    "TriggerTime",
    "TemporalPositionIdentifier",
    "EchoTime",
    "AcquisitionNumber",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    # Philips's scale slope, and who defines it.
    *(0x20050000 + element for element in range(0x10, 0x20)),
    *(0x2005000E + (block << 8) for block in range(0x10, 0x20)),
)
"""The attributes that ``read_header`` looks at; nothing else of a header enters memory."""
NO_IMAGES = ("SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RWV", "REG", "DOC", "AU")
"""Modalities of objects that lie beside a series and refer to it."""
_PHILIPS_SLOPE = (0x2005, "Philips MR Imaging DD 001", 0x0E)
_PHILIPS_FRAME = (0x2005, "Philips MR Imaging DD 005", 0x0F)
"""Where Philips keeps the scale slope, and the sequence that holds it in multi-frame files."""
_MR_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
)
"""Single-frame, enhanced, and converted to enhanced."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ENHANCED_COLOR = "1.2.840.10008.5.1.4.1.1.4.3"
_MAX_DESCRIPTION = 64
_KINDS = {
    "phase": "phases of the heart beat (a cine)",
    "echo": "echoes",
    "kind": "kinds of image, such as magnitude and phase",
    "acquisition": "acquisitions",
}


@dataclass(frozen=True)
class Frame:
    """One image of a series.

    Attributes:
        file: Name of its file in the folder or archive.
        index: Its number in that file, from 0.
        size: Rows and columns.
        orientation: Directions of a row and of a column in the patient (left, posterior, superior).
        position_mm: Centre of its first pixel in the patient (left, posterior, superior).
        spacing_mm: Distance of neighbouring rows, and of neighbouring columns.
        scaling: Slope and intercept from stored values to intensities.
        frame_of_reference: Identifies the coordinate system of its position.
        marks: What tells images at one position apart: ``phase``, ``echo``, ``kind`` or
            ``acquisition``, and the value.
    """

    file: str
    index: int
    size: tuple[int, int]
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    spacing_mm: tuple[float, float]
    scaling: tuple[float, float]
    frame_of_reference: str
    marks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Header:
    """What one file says about itself.

    Attributes:
        file: Its name in the folder or archive.
        uid: Identifies the object (SOP Instance UID).
        series_uid: Identifies its series.
        number: Series number, if there is one.
        description: Series description, without the patient's name and the like.
        bits: Bits of a stored value.
        num_frames: Number of its images.
        frames: Its images; empty if there is a problem.
        problem: Why it cannot be read as MR images, if so.
        identity: Parts of names, identifiers and dates, in small letters.
    """

    file: str
    uid: str
    series_uid: str
    number: int | None
    description: str
    bits: int
    num_frames: int
    frames: tuple[Frame, ...]
    problem: str | None
    identity: frozenset[str] = field(repr=False)


def read_header(dataset: Any, file: str) -> Header | None:  # noqa: ANN401 - pydicom's data set
    """Read what a data set says about its images.

    Args:
        dataset: The data set, with at least ``HEADER_TAGS``.
        file: Name of its file.

    Returns:
        The header; None if the object is no image.

    Raises:
        One of ``unreadable()`` if values are broken where it matters.
    """
    if not dataset.get("Rows") or not dataset.get("Columns"):
        # Read from a truncated file: pydicom stops without an error.
        if _sop_class(dataset) in ("", *_MR_IMAGES):
            raise ValueError("truncated")
        return None
    if text_of(dataset, "Modality") in NO_IMAGES:
        return None
    identity = frozenset(_identity_parts(dataset))
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    frames: tuple[Frame, ...] = ()
    problem = _find_problem(dataset)
    if problem is None:
        try:
            frames = tuple(_read_frames(dataset, file, num_frames))
        except DataError as error:
            problem = str(error)
    number = numbers_of(dataset, "SeriesNumber", 1)
    return Header(
        file=file,
        uid=text_of(dataset, "SOPInstanceUID"),
        series_uid=text_of(dataset, "SeriesInstanceUID"),
        number=int(number[0]) if number else None,
        description=_describe(dataset, identity),
        bits=int(dataset.get("BitsAllocated") or 0),
        num_frames=num_frames,
        frames=frames,
        problem=problem,
        identity=identity,
    )


def reveals(text: str, identity: frozenset[str]) -> bool:
    """Tell whether a text holds a part of a patient's name, an identifier or a date."""
    folded = text.casefold()
    return any(part in folded for part in identity)


def text_of(dataset: Any, keyword: str) -> str:  # noqa: ANN401 - pydicom's data set
    """Return a value as text, its parts separated by a backslash; empty if missing or broken."""
    value = _value_of(dataset, keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) else _parts(value)
    return "\\".join(str(part).strip() for part in parts)


def numbers_of(
    dataset: Any,  # noqa: ANN401 - pydicom's data set
    keyword: str,
    count: int,
) -> tuple[float, ...] | None:
    """Return the ``count`` finite numbers of a value; None if missing, broken or fewer or more."""
    try:
        found = tuple(float(part) for part in _parts(_value_of(dataset, keyword)))
    except unreadable():
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def _value_of(dataset: Any, keyword: str) -> Any:  # noqa: ANN401 - a value of any type
    try:
        return dataset.get(keyword)
    except unreadable():
        return None


def _parts(value: Any) -> list[Any]:  # noqa: ANN401 - a value of any type
    if value is None:
        return []
    is_list = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
    # A person's name has parts of its own.
    return list(value) if is_list and not hasattr(value, "components") else [value]


def _identity_parts(dataset: Any) -> Iterator[str]:  # noqa: ANN401 - pydicom's data set
    for keyword in _IDENTITY:
        for part in re.split(r"[\s^=\\,]+", text_of(dataset, keyword)):
            if len(part) >= _MIN_IDENTITY:
                yield part.casefold()


def _describe(dataset: Any, identity: frozenset[str]) -> str:  # noqa: ANN401 - pydicom's data set
    printable = (c if c.isprintable() else " " for c in text_of(dataset, "SeriesDescription"))
    text = " ".join("".join(printable).split())[:_MAX_DESCRIPTION]
    return "(description withheld: it names the patient)" if reveals(text, identity) else text


def _sop_class(dataset: Any) -> str:  # noqa: ANN401 - pydicom's data set
    """Return what kind of object a data set is, as it or the first part of its file says."""
    meta = text_of(getattr(dataset, "file_meta", {}), "MediaStorageSOPClassUID")
    return text_of(dataset, "SOPClassUID") or meta


def _find_problem(dataset: Any) -> str | None:  # noqa: ANN401 - pydicom's data set
    """Say why a file cannot be read as MR images, whatever its geometry."""
    modality = text_of(dataset, "Modality")
    photometric = text_of(dataset, "PhotometricInterpretation")
    sop_class = _sop_class(dataset)
    if modality != "MR":
        return f"its images are of the modality {_code(modality)}, and heartseg reads MR"
    if sop_class == _ENHANCED_COLOR or int(dataset.get("SamplesPerPixel") or 1) != 1:
        return "its images are in colour"
    if photometric != "MONOCHROME2":
        return f"its images are stored as {_code(photometric)}; expected MONOCHROME2"
    if "MOSAIC" in text_of(dataset, "ImageType").split("\\"):
        return "its images are mosaics, which hold all slices of a time point in one picture"
    if dataset.get("ModalityLUTSequence"):
        return "its values pass through a lookup table"
    has_groups = bool(dataset.get("PerFrameFunctionalGroupsSequence"))
    if not has_groups and not dataset.get("ImagePositionPatient"):
        is_capture = sop_class.startswith(_SECONDARY_CAPTURE)
        what = "are screenshots (secondary captures)" if is_capture else "do not say where they lie"
        return f"its images {what}: they have no position in the patient"
    return None


def _code(text: str) -> str:
    """Return a code of the header if it looks like one: it may be any text."""
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else "(unknown)"


def _read_frames(
    dataset: Any,  # noqa: ANN401 - pydicom's data set
    file: str,
    num_frames: int,
) -> Iterator[Frame]:
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    if len(per_frame) != num_frames and (per_frame or num_frames != 1):
        raise DataError(
            f"it claims {num_frames} frames and describes the position of {len(per_frame)}"
        )
    size = (int(dataset.Rows), int(dataset.Columns))
    for index in range(num_frames):
        # The file itself speaks last: single-frame files have no groups.
        groups = (*per_frame[index : index + 1], *shared[:1])
        yield _read_frame(_Groups(groups, dataset), file, index, size)


@dataclass(frozen=True)
class _Groups:
    """Where the values of one frame are looked up: its own groups, the shared ones, the file."""

    groups: tuple[Any, ...]
    dataset: Any

    def find(self, sequence: str) -> Any:  # noqa: ANN401 - pydicom's data set
        """Return the item of a functional group; the file itself if no group says anything."""
        for place in (*self.groups, self.dataset):
            item = _value_of(place, sequence)
            if item:
                return item[0]
        return self.dataset


def _read_frame(groups: _Groups, file: str, index: int, size: tuple[int, int]) -> Frame:
    position = numbers_of(groups.find("PlanePositionSequence"), "ImagePositionPatient", 3)
    orientation = numbers_of(groups.find("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = numbers_of(groups.find("PixelMeasuresSequence"), "PixelSpacing", 2)
    if position is None or orientation is None:
        raise DataError("an image has no position or orientation in the patient")
    if spacing is None or min(spacing) <= 0:
        raise DataError("an image has no pixel spacing")
    return Frame(
        file,
        index,
        size,
        orientation,
        position,
        (spacing[0], spacing[1]),
        _read_scaling(groups),
        text_of(groups.dataset, "FrameOfReferenceUID"),
        tuple(_read_marks(groups)),
    )


def _read_scaling(groups: _Groups) -> tuple[float, float]:
    """Return slope and intercept: of the rescaling, else of the mapping to real-world values.

    Philips scales each image for display and states the scale of the measured values beside it.

    References:
        Chenevert et al. (2014). Transl Oncol 7(1), 65-71. https://doi.org/10.1593/tlo.13811
    """
    rescaling = groups.find("PixelValueTransformationSequence")
    mapping = groups.find("RealWorldValueMappingSequence")
    if _value_of(rescaling, "RescaleSlope") is not None:
        slope = numbers_of(rescaling, "RescaleSlope", 1)
        intercept = numbers_of(rescaling, "RescaleIntercept", 1)
    elif _value_of(mapping, "RealWorldValueSlope") is not None:
        slope = numbers_of(mapping, "RealWorldValueSlope", 1)
        intercept = numbers_of(mapping, "RealWorldValueIntercept", 1)
    else:
        return 1.0, 0.0
    if slope is None or slope[0] == 0 or intercept is None:
        raise DataError("the scaling of its values (slope and intercept) is broken")
    measured = _find_philips_slope(groups)
    if measured is not None:
        return 1 / measured, intercept[0] / (slope[0] * measured)
    return slope[0], intercept[0]


def _find_philips_slope(groups: _Groups) -> float | None:
    """Return the scale slope of Philips, which leads from measured to stored values."""
    for place in (*groups.groups, groups.dataset):
        own = _private_value(place, _PHILIPS_FRAME)
        for holder in (own[0] if own else None, place):
            slope = None if holder is None else _private_value(holder, _PHILIPS_SLOPE)
            try:
                number = float(slope if slope is not None else 0)
            except unreadable():
                continue
            if math.isfinite(number) and number > 0:
                return number
    return None


def _private_value(
    dataset: Any,  # noqa: ANN401 - pydicom's data set
    where: tuple[int, str, int],
) -> Any:  # noqa: ANN401 - a value of any type
    """Return a value of a scanner's own group; None if missing or broken."""
    group, creator, element = where
    try:
        return dataset.private_block(group, creator)[element].value
    except unreadable():
        return None


def _read_marks(groups: _Groups) -> Iterator[tuple[str, str]]:
    """Yield what may tell two images at the same position apart."""
    places = (
        ("phase", "CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        ("phase", "FrameContentSequence", "TemporalPositionIndex"),
        ("phase", "", "TriggerTime"),
        ("phase", "", "TemporalPositionIdentifier"),
        ("echo", "MREchoSequence", "EffectiveEchoTime"),
        ("echo", "", "EchoTime"),
        ("kind", "MRImageFrameTypeSequence", "FrameType"),
        ("kind", "MRImageFrameTypeSequence", "ComplexImageComponent"),
        ("kind", "", "ImageType"),
        ("acquisition", "FrameContentSequence", "FrameAcquisitionNumber"),
        ("acquisition", "", "AcquisitionNumber"),
    )
    for what, sequence, keyword in places:
        text = text_of(groups.find(sequence) if sequence else groups.dataset, keyword)
        if text:
            yield what, text


def name_differences(frames: list[Frame]) -> str:
    """Say what tells images apart that lie at the same position."""
    for what, words in _KINDS.items():
        values = {tuple(value for kind, value in f.marks if kind == what) for f in frames}
        if len(values) > 1:
            return words
    return "copies or repetitions"
