"""A DICOM series as a volume: its voxels, and the headers that a DICOM SEG repeats."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.scans.dicom_files import Container, open_container, read_dataset, unreadable
from heartseg.scans.dicom_frames import Frame
from heartseg.scans.dicom_series import Series, choose_series
from heartseg.scans.dicom_stack import Stack
from heartseg.scans.optional import import_dicom_library
from heartseg.scans.volume import Volume, build_volume, zero_non_finite

_RISKY_DECODER = "gdcm"
"""Ends the process on some broken images, so that it decodes only what no other can."""


def read_dicom(path: Path, *, series: int | None = None) -> Volume:
    """Read an MR series as one volume.

    Args:
        path: A folder (with those below), a ``.zip`` or a multi-frame file.
        series: Number of the series; None if there is only one.

    Returns:
        The volume; ``voxels`` is float32, its axes are the columns, rows and slices of the series.

    Raises:
        DataError: If there are several series and none is chosen, or the series is not one volume
            on a regular grid, not MR, broken, or too large.
    """
    return read_series(choose_series(path, series))


def read_series(series: Series) -> Volume:
    """Read the voxels of a series that ``find_series`` or ``choose_series`` gave.

    Raises:
        DataError: If the series is refused, its files changed meanwhile, or images are broken.
    """
    source = f"{series.path}: {series.label}"
    if series.stack is None:
        raise DataError(f"{source}: {series.problem}")
    with open_container(series.path) as container:
        try:
            voxels = _read_voxels(container, series.stack)
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
    zero_non_finite(voxels, source=source)
    return build_volume(voxels, series.stack.affine, source=source)


def read_headers(series: Series) -> list[Any]:
    """Read the whole headers of a series, for a DICOM SEG that refers to it.

    Returns:
        One pydicom data set per file, without voxels, in the order of the slices.

    Raises:
        DataError: If a file changed meanwhile.
    """
    if series.stack is None:
        raise DataError(f"{series.path}: {series.label}: {series.problem}")
    names = dict.fromkeys(frame.file for frame in series.stack.frames)
    try:
        with open_container(series.path) as container:
            return [_read_whole_header(container, name) for name in names]
    except unreadable():
        raise DataError(f"{series.path}: {series.label}: its files can no longer be read") from None


def _read_whole_header(container: Container, name: str) -> Any:  # noqa: ANN401 - a data set
    with container.open(name) as stream:
        return read_dataset(stream)


def _read_voxels(container: Container, stack: Stack) -> NDArray[np.float32]:
    columns, rows, slices = stack.shape
    # Slice by slice in memory, as they come.
    voxels = np.zeros((slices, rows, columns), np.float32)
    places = sorted(range(slices), key=lambda z: (stack.frames[z].file, stack.frames[z].index))
    for file, group in groupby(places, key=lambda z: stack.frames[z].file):
        zs = list(group)
        frames = [stack.frames[z] for z in zs]
        try:
            # What overflows counts as not finite.
            with container.open(file) as stream, np.errstate(all="ignore"):
                for z, frame, stored in zip(zs, frames, _decode(stream, frames), strict=True):
                    slope, intercept = frame.scaling
                    if (slope, intercept) == (1, 0):
                        voxels[z] = stored
                    else:
                        voxels[z] = stored * slope + intercept
        except unreadable():
            # The texts of these errors may quote a header.
            raise DataError(
                f"the voxels of slice {zs[0] + 1} of {slices} cannot be read (broken or truncated)"
            ) from None
    return voxels.transpose(2, 1, 0)


def _decode(stream: IO[bytes], frames: Sequence[Frame]) -> Iterator[NDArray[Any]]:
    """Yield the stored values of images of one file, ``(rows, columns)`` each."""
    pixels = import_dicom_library("pydicom.pixels")
    dataset = import_dicom_library().dcmread(stream, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        # A file without its first part; pydicom found out how it is encoded.
        uid = import_dicom_library("pydicom.uid")
        _, is_little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            uid.ExplicitVRLittleEndian if is_little else uid.ExplicitVRBigEndian
        )
    plugin = _choose_decoder(dataset.file_meta.TransferSyntaxUID)
    indices = [frame.index for frame in frames]
    decoded = pixels.iter_pixels(dataset, indices=indices, raw=True, decoding_plugin=plugin)
    for frame, stored in zip(frames, decoded, strict=True):
        if stored.shape != frame.size or stored.dtype.kind not in "iuf":
            raise ValueError("another shape")
        yield stored


def _choose_decoder(syntax: Any) -> str:  # noqa: ANN401 - pydicom's UID
    """Return the plugin that decodes a transfer syntax; empty for one that needs none.

    Raises:
        DataError: If none is installed that can.
    """
    try:
        decoder = import_dicom_library("pydicom.pixels").get_decoder(syntax)
        plugins, available = decoder.available_plugins, decoder.is_available
    except NotImplementedError:
        plugins, available = (), False
    if not available:
        name = syntax.name if syntax.name != str(syntax) else "an unknown method"
        raise DataError(
            f"its images are compressed ({name}), which the installed libraries cannot decode; "
            "install a decoder with `pip install python-gdcm`, or export the series uncompressed"
        )
    return next((p for p in plugins if p != _RISKY_DECODER), plugins[0] if plugins else "")
