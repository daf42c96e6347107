"""Scans and label maps as callers have them: paths, nibabel images and arrays."""

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import ArrayLike, NDArray

from heartseg.errors import DataError
from heartseg.exchange.label_maps import read_labels
from heartseg.files import image_stem
from heartseg.inference.tasks import find_label_map, name_case
from heartseg.labels import LabelTable
from heartseg.scans.dicom_series import Series
from heartseg.scans.reading import ScanSource, find_scan
from heartseg.scans.volume import (
    MAX_BYTES,
    Volume,
    as_labels,
    build_volume,
    check_affine,
    check_grid,
    reason_of,
    zero_non_finite,
)

ScanLike: TypeAlias = str | os.PathLike[str] | SpatialImage | tuple[ArrayLike, ArrayLike]
"""A path, a nibabel image, or an ``(X, Y, Z)`` array with its ``(4, 4)`` affine."""
LabelMapLike: TypeAlias = str | os.PathLike[str] | SpatialImage | ArrayLike
"""A path, a nibabel image, or an ``(X, Y, Z)`` array."""

_SCAN = "scan"
"""What errors call a scan that has no file."""


@dataclass(frozen=True)
class NamedScan:
    """A scan, and what it is called.

    Attributes:
        volume: The scan.
        source: What errors call it.
        name: What its results are called; None if it has no file.
        series: The DICOM series that it was read from; None in other formats.
        label_map: The label map that a data set keeps beside its file, if it is there.
    """

    volume: Volume
    source: str
    name: str | None
    series: Series | None = None
    label_map: Path | None = None


@dataclass(frozen=True)
class NamedLabelMap:
    """A label map, and what it is called.

    Attributes:
        labels: ``(X, Y, Z)`` uint8 labels.
        volume: The same with its grid; None of an array, which has none.
        source: What errors call it.
        file: Its file; None if it has none.
    """

    labels: NDArray[np.uint8]
    volume: Volume | None
    source: str
    file: Path | None


def take_scan(
    scan: ScanLike, *, series: int | None = None, image_suffix: str = "", label_suffix: str = ""
) -> NamedScan:
    """Read or convert a scan; what is given is not changed.

    Args:
        scan: The scan.
        series: Number of the DICOM series; None if there is only one, and in other formats.
        image_suffix: What a data set puts behind the name of a case; it is left out of the name.
        label_suffix: What it puts behind the name of a case in a label map.

    Raises:
        DataError: If it is of another type, missing, broken, not 3D, or not of real numbers.
    """
    if isinstance(scan, (str, os.PathLike)):
        found = find_scan(Path(scan), series=series)
        name = name_case(found, image_suffix=image_suffix)
        label_map = find_label_map(found, image_suffix, label_suffix)
        return NamedScan(found.read(), str(found.path), name, found.series, label_map)
    if series is not None:
        raise DataError("series: can be chosen in DICOM only; expected a path as the scan")
    if isinstance(scan, SpatialImage):
        image_file = _file_of(scan)
        source = str(image_file or _SCAN)
        named = None
        if image_file is not None:
            stem = image_stem(image_file)
            named = name_case(ScanSource(image_file, stem), image_suffix=image_suffix)
        return NamedScan(_image_to_volume(scan, np.float32, source=source), source, named)
    if isinstance(scan, tuple) and len(scan) == 2:
        voxels = _check_array(scan[0], source=_SCAN)
        affine = _check_affine_array(scan[1])
        with np.errstate(over="ignore"):
            copied = np.array(voxels, np.float32)
        zero_non_finite(copied, source=_SCAN)
        return NamedScan(build_volume(copied, affine), _SCAN, None)
    raise DataError(
        "scan: expected a path, a nibabel image or (array, affine), found "
        f"{type(scan).__module__}.{type(scan).__qualname__}; an array alone has no spacing"
    )


def take_label_map(labels: LabelMapLike, table: LabelTable, *, name: str) -> NamedLabelMap:
    """Read or convert a label map; what is given is not changed.

    Args:
        labels: The label map.
        table: The labels that may occur.
        name: What errors call it if it has no file.

    Raises:
        DataError: If it is missing, broken, not 3D, or holds a value that is no label.
    """
    if isinstance(labels, (str, os.PathLike)):
        file = Path(labels)
        volume = read_labels(file, table)
        return NamedLabelMap(volume.voxels, volume, str(file), file)
    if isinstance(labels, SpatialImage):
        image_file = _file_of(labels)
        source = str(image_file or name)
        read = _image_to_volume(labels, None, source=source)
        values = _check_labels(read.voxels, table, source=source)
        volume = Volume(values, read.affine, read.header)
        return NamedLabelMap(values, volume, source, image_file)
    values = _check_labels(_check_array(labels, source=name), table, source=name)
    return NamedLabelMap(values, None, name, None)


def _file_of(image: SpatialImage) -> Path | None:
    name = image.get_filename()
    return Path(name) if name else None


def _image_to_volume(image: SpatialImage, dtype: type[np.float32] | None, *, source: str) -> Volume:
    """Read the voxels of an image without filling its cache."""
    check_grid(image.shape, np.dtype(image.dataobj.dtype), source=source, most=MAX_BYTES)
    if image.affine is None:
        raise DataError(f"{source}: expected an image with an affine, found none")
    affine = np.array(image.affine, np.float64)
    check_affine(affine, source=source)
    try:
        with np.errstate(all="ignore"):
            voxels: NDArray[Any] = np.array(image.dataobj, dtype)
    except (
        HeaderDataError,
        ImageFileError,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        OverflowError,
    ) as error:
        raise DataError(f"{source}: its voxels cannot be read ({reason_of(error)})") from error
    if dtype is not None:
        zero_non_finite(voxels, source=source)
    if isinstance(image.header, Nifti1Header):
        return Volume(voxels, affine, image.header.copy())
    return build_volume(voxels, affine)


def _check_array(array: ArrayLike, *, source: str) -> NDArray[Any]:
    try:
        voxels = np.asarray(array)
    except ValueError as error:
        raise DataError(f"{source}: expected an array ({reason_of(error)})") from error
    if voxels.dtype == np.bool_:
        voxels = voxels.astype(np.uint8)
    check_grid(voxels.shape, voxels.dtype, source=source, most=MAX_BYTES)
    return voxels


def _check_affine_array(affine: ArrayLike) -> NDArray[np.float64]:
    try:
        checked = np.array(affine, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"affine: expected a (4, 4) array ({reason_of(error)})") from error
    if checked.shape != (4, 4):
        raise DataError(f"affine: expected the shape (4, 4), found {checked.shape}")
    check_affine(checked, source=_SCAN)
    return checked


def _check_labels(voxels: NDArray[Any], table: LabelTable, *, source: str) -> NDArray[np.uint8]:
    whole = as_labels(voxels, source=source)
    table.check_values(whole, source=source)
    return whole.astype(np.uint8)
