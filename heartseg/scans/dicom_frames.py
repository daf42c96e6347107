"""Where each image of a DICOM file lies in the patient, and how its values are scaled.

Single-frame files state it once; enhanced multi-frame files state it in functional groups, for all
frames together or for each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heartseg.errors import DataError
from heartseg.scans.dicom_scaling import read_scaling
from heartseg.scans.dicom_values import FrameGroups, numbers_of, text_of

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


def read_frames(
    dataset: Any,  # noqa: ANN401 - pydicom's data set
    file: str,
    num_frames: int,
) -> Iterator[Frame]:
    """Yield the images of a data set.

    Raises:
        DataError: If their position, spacing or scaling is missing or broken.
    """
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
        yield _read_frame(FrameGroups(groups, dataset), file, index, size)


def _read_frame(groups: FrameGroups, file: str, index: int, size: tuple[int, int]) -> Frame:
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
        read_scaling(groups),
        text_of(groups.dataset, "FrameOfReferenceUID"),
        tuple(_read_marks(groups)),
    )


def _read_marks(groups: FrameGroups) -> Iterator[tuple[str, str]]:
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
