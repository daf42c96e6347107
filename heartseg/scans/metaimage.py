"""MetaImage volumes: a ``.mha`` file, or a ``.mhd`` header with its voxels beside it.

The format is a list of ``Key = Value`` lines, which ends with the one that says where the voxels
are. ITK's own reader would do, but it ends the process on some broken files.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import MAX_DEFLATE_RATIO
from heartseg.scans.raw_voxels import find_beside, read_raw_voxels
from heartseg.scans.volume import Volume, build_volume, check_grid, reason_of

METAIMAGE_SUFFIXES = (".mha", ".mhd")
MAX_LINE_BYTES = 2**12
MAX_LINES = 1000
"""A longer line, and more lines, are taken for a broken file."""
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_SYNONYMS = {
    "Position": "Offset",
    "Origin": "Offset",
    "Orientation": "TransformMatrix",
    "Rotation": "TransformMatrix",
    "BinaryDataByteOrderMSB": "ElementByteOrderMSB",
}


def read_metaimage(file: Path) -> Volume:
    """Read one 3D image; further axes of size 1 are dropped.

    Args:
        file: A ``.mha`` file, or a ``.mhd`` header.

    Returns:
        The volume; ``voxels`` has the type of the file.

    Raises:
        DataError: If the file is missing, broken, not one 3D image of plain numbers, or too large.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        with file.open("rb") as stream:
            fields = _read_fields(stream)
            name = fields["ElementDataFile"]
            if name.upper() == "LOCAL":
                return _read_volume(stream, fields, file, stored_in=file)
            source = find_beside(file, name)
            with source.open("rb") as voxels:
                return _read_volume(voxels, fields, file, stored_in=source)
    except (
        OSError,
        EOFError,
        IsalError,
        zlib.error,
        ValueError,
        LookupError,
        ArithmeticError,
    ) as error:
        raise DataError(f"{file}: not a readable MetaImage file ({reason_of(error)})") from error


def _read_fields(stream: IO[bytes]) -> dict[str, str]:
    """Read the text header, and leave the stream behind it."""
    fields: dict[str, str] = {}
    for _ in range(MAX_LINES):
        line = stream.readline(MAX_LINE_BYTES)
        key, found, value = line.decode("ascii", "replace").partition("=")
        if not found or not line.endswith(b"\n"):
            break
        key = key.strip()
        fields[_SYNONYMS.get(key, key)] = value.strip()
        if key == "ElementDataFile":
            return fields
    raise ValueError("it has no MetaImage header")


def _read_volume(
    stream: IO[bytes], fields: Mapping[str, str], file: Path, *, stored_in: Path
) -> Volume:
    num_axes = int(fields["NDims"])
    sizes = _read_numbers(fields, "DimSize", num_axes)
    shape = tuple(int(size) for size in sizes)
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    if num_axes < 3 or channels != 1 or any(size != 1 for size in shape[3:]):
        raise DataError(
            f"{file}: expected one 3D volume, found the shape {shape} with {channels} values per "
            "voxel"
        )
    if not _is_true(fields, "BinaryData", default="True") or int(fields.get("HeaderSize", "0")):
        raise ValueError("expected binary voxels without a header of their own")
    packed = _is_true(fields, "CompressedData")
    order = ">" if _is_true(fields, "ElementByteOrderMSB") else "<"
    dtype = np.dtype(f"{order}{_TYPES[fields['ElementType']]}")
    most = stored_in.stat().st_size * (MAX_DEFLATE_RATIO if packed else 1)
    check_grid(shape[:3], dtype, source=str(file), most=most)
    affine = _read_affine(fields, num_axes)
    voxels = read_raw_voxels(stream, shape[:3], dtype, packing="zlib" if packed else "raw")
    return build_volume(voxels, affine, source=str(file))


def _read_affine(fields: Mapping[str, str], num_axes: int) -> NDArray[np.float64]:
    """Return the affine; MetaImage's directions run left, posterior, superior, one per row."""
    identity = " ".join(str(value) for value in np.eye(num_axes).ravel())
    numbers = _read_numbers({"TransformMatrix": identity, **fields}, "TransformMatrix", num_axes**2)
    directions = np.reshape(numbers, (num_axes, num_axes))[:3, :3].T
    step = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"
    spacing = _read_numbers(fields, step, num_axes)[:3]
    zeros = " ".join("0" * num_axes)
    offset = _read_numbers({"Offset": zeros, **fields}, "Offset", num_axes)[:3]
    affine = np.eye(4)
    # Infinite numbers are found when the affine is checked.
    with np.errstate(all="ignore"):
        affine[:3, :3], affine[:3, 3] = directions * spacing, offset
        affine[:2] *= -1
    return affine


def _read_numbers(fields: Mapping[str, str], key: str, count: int) -> list[float]:
    numbers = [float(part) for part in fields[key].split()]
    if len(numbers) != count:
        raise ValueError(f"expected {count} numbers in {key}, found {len(numbers)}")
    return numbers


def _is_true(fields: Mapping[str, Any], key: str, default: str = "False") -> bool:
    return str(fields.get(key, default)).lower() in ("true", "1")
