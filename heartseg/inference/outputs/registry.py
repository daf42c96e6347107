"""The output formats by name. To add one, write a module that defines it, and name it here."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from heartseg.errors import ConfigError, DataError
from heartseg.files import replacing_all
from heartseg.inference.outputs.dicom_seg import DICOM_SEG
from heartseg.inference.outputs.label_map import LABEL_MAP
from heartseg.inference.outputs.mask import MASK
from heartseg.inference.outputs.movie import MOVIE_GIF, MOVIE_MP4, MOVIE_WEBM
from heartseg.inference.outputs.numbers import NUMBERS
from heartseg.inference.outputs.output_format import OutputFormat
from heartseg.inference.outputs.overlay import OVERLAY
from heartseg.inference.outputs.preview import PREVIEW
from heartseg.inference.outputs.report import REPORT
from heartseg.inference.outputs.slicer import SLICER
from heartseg.inference.outputs.split import SPLIT
from heartseg.inference.outputs.suggestion import SUGGESTION
from heartseg.inference.outputs.surfaces import SURFACES
from heartseg.inference.results import SegmentedPicture, SegmentedScan, Wanted
from heartseg.labels import Structure
from heartseg.measurements.body_surface import body_surface_m2
from heartseg.scans.dicom_series import Series

SCAN_FORMATS: Mapping[str, OutputFormat[SegmentedScan]] = {
    "label_map": LABEL_MAP,
    "preview": PREVIEW,
    "numbers": NUMBERS,
    "report": REPORT,
    "movie_webm": MOVIE_WEBM,
    "movie_gif": MOVIE_GIF,
    "movie_mp4": MOVIE_MP4,
    "surfaces": SURFACES,
    "slicer": SLICER,
    "split": SPLIT,
    "suggestion": SUGGESTION,
    "dicom_seg": DICOM_SEG,
}
PICTURE_FORMATS: Mapping[str, OutputFormat[SegmentedPicture]] = {
    "mask": MASK,
    "overlay": OVERLAY,
}
DEFAULT_SCAN_FORMATS = ("label_map", "preview", "numbers")
"""What is written of a scan unless one asks for something else."""

SHAPED_FORMATS = ("report", "surfaces")
"""Formats that need smooth surfaces anyway: with one of them, areas and diameters are measured."""

Files = Mapping[str, tuple[Path, ...]]
"""The files of one case, by the name of their format."""
_Result = TypeVar("_Result")


def find_wanted(
    formats: Collection[str],
    *,
    structures: Sequence[str] | None = None,
    height_cm: float | None = None,
    weight_kg: float | None = None,
    bsa_m2: float | None = None,
    diameters: bool = False,
) -> Wanted:
    """Find out what is wanted of scans.

    Args:
        formats: Names of the wanted formats.
        structures: Keys of the wanted structures; None: all.
        height_cm: Height of the patient.
        weight_kg: Weight of the patient.
        bsa_m2: Body surface area of the patient, in place of both.
        diameters: Whether areas and diameters are measured also where no format needs surfaces.

    Raises:
        ConfigError: If a label map to correct is wanted of a part of the structures.
        DataError: If height, weight or area are none of a patient, or do not belong together.
    """
    if structures is not None and "suggestion" in formats:
        # What is left out would be background, and taught to the model as such.
        raise ConfigError(
            "suggestion: a label map to correct holds all structures; leave out infer.structures "
            "(--structures)"
        )
    return Wanted(
        None if structures is None else tuple(structures),
        body_surface_m2(height_cm=height_cm, weight_kg=weight_kg, area_m2=bsa_m2),
        diameters or any(name in formats for name in SHAPED_FORMATS),
    )


def name_files(
    formats: Mapping[str, OutputFormat[Any]],
    chosen: Iterable[str],
    *,
    folder: Path,
    case: str,
    structures: Sequence[Structure],
    option: str = "formats",
) -> Files:
    """Name the files of a case.

    Args:
        formats: ``SCAN_FORMATS`` or ``PICTURE_FORMATS``.
        chosen: Names of the wanted formats.
        folder: Where the files go.
        case: What their names begin with.
        structures: The structures that are wanted.
        option: Where the names of the formats come from, for the error.

    Raises:
        ConfigError: If a name is of no format.
    """
    wanted = list(dict.fromkeys(chosen))
    unknown = [name for name in wanted if name not in formats]
    if unknown:
        raise ConfigError(
            f"{option}: expected output formats ({', '.join(formats)}), found {', '.join(unknown)}"
        )
    return {name: formats[name].name_files(folder, case, structures) for name in wanted}


def check_source(chosen: Iterable[str], series: Series | None, *, source: str) -> None:
    """Make sure that the wanted formats can be written of a scan.

    Args:
        chosen: Names of output formats of a scan.
        series: The DICOM series that the scan was read from, if it was.
        source: What to call the scan in the error, usually its file.

    Raises:
        DataError: If one needs a DICOM series and the scan is none.
    """
    for name in chosen:
        if series is None and name in SCAN_FORMATS and SCAN_FORMATS[name].needs_dicom:
            raise DataError(
                f"{source}: expected a DICOM series, to which the output format {name} "
                f"(--{name.replace('_', '-')}) refers; name the DICOM folder that the scan comes "
                f"from, or leave out {name}"
            )


def write_files(
    formats: Mapping[str, OutputFormat[_Result]],
    files: Mapping[str, Sequence[Path]],
    result: _Result,
) -> None:
    """Write the files that ``name_files`` named: all of them or none.

    A file of an earlier call is removed if this result has none, such as the surface of a structure
    that was not found again.

    Raises:
        DataError: If a file cannot be written; then all are as they were.
    """
    planned = [file for paths in files.values() for file in paths]
    if not planned:
        return
    with replacing_all(planned) as temporary:
        remaining = iter(temporary)
        for name, paths in files.items():
            formats[name].write([next(remaining) for _ in paths], result)
