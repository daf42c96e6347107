"""What a DICOM file says about itself: which series it is of, and whether it holds MR images.

No value that identifies a patient leaves this module, except as a part to compare texts with.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from heartseg.errors import DataError
from heartseg.scans.dicom_frames import Frame, read_frames
from heartseg.scans.dicom_scaling import PHILIPS_TAGS
from heartseg.scans.dicom_values import numbers_of, text_of

_DATES = (
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "AcquisitionDateTime",
    "ContentDate",
    "InstanceCreationDate",
)
_NAMES = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "OtherPatientIDs",
    "PatientBirthName",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "OperatorsName",
)
IDENTITY_TAGS = (*_DATES, *_NAMES)
"""Values that may not be repeated in a message or a file name."""
_MIN_IDENTITY = 3
"""Shorter parts of names are found in any text, unless they are written in signs of their own."""
HEADER_TAGS: tuple[str | int, ...] = (
    *IDENTITY_TAGS,
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
    *PHILIPS_TAGS,
)
"""The attributes that ``read_header`` looks at; nothing else of a header enters memory."""
NO_IMAGES = ("SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RWV", "REG", "DOC", "AU")
"""Modalities of objects that lie beside a series and refer to it."""
_MR_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
)
"""Single-frame, enhanced, and converted to enhanced."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ENHANCED_COLOR = "1.2.840.10008.5.1.4.1.1.4.3"
_MAX_DESCRIPTION = 64


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
        identity: Parts of names, identifiers and dates; see ``reveals``.
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
    identity = read_identity(dataset)
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    frames: tuple[Frame, ...] = ()
    problem = _find_problem(dataset)
    if problem is None:
        try:
            frames = tuple(read_frames(dataset, file, num_frames))
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


def read_identity(dataset: Any) -> frozenset[str]:  # noqa: ANN401 - pydicom's data set
    """Return the parts of names, identifiers and dates of a data set, to compare texts with."""
    return frozenset(
        part
        for part in _identity_parts(dataset)
        if len(part) >= _MIN_IDENTITY - (not part.isascii())
    )


def reveals(text: str, identity: frozenset[str]) -> bool:
    """Tell whether a text holds a part of a patient's name, an identifier or a date.

    Capital letters, accents and what separates the parts of a date do not matter.
    """
    plain = _simplify(text)
    return any(part in plain for part in identity)


def _identity_parts(dataset: Any) -> Iterator[str]:  # noqa: ANN401 - pydicom's data set
    for keyword in _NAMES:
        yield from map(_simplify, re.split(r"[\s^=\\,]+", text_of(dataset, keyword)))
    for keyword in _DATES:
        date = _simplify(text_of(dataset, keyword))[:8]
        if re.fullmatch(r"[0-9]{8}", date):
            year, month, day = date[:4], date[4:6], date[6:]
            yield from (date, day + month + year, month + day + year)


def _simplify(text: str) -> str:
    """Return the letters and digits of a text, without accents and in small letters."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if letter.isalnum())


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
