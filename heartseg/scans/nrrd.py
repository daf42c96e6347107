"""NRRD volumes: a ``.nrrd`` file, or a ``.nhdr`` header with its voxels beside it."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import MAX_DEFLATE_RATIO
from heartseg.scans.raw_voxels import find_beside, read_raw_voxels
from heartseg.scans.volume import (
    MAX_BYTES,
    Volume,
    build_volume,
    check_grid,
    reason_of,
)

NRRD_SUFFIXES = (".nrrd", ".nhdr")
MAX_TEXT_BYTES = 2**22
"""A longer text header is taken for a broken file."""
_INTEGERS = {
    "1": ("char", "int8", "int8_t"),
    "2": ("short", "short int", "int16", "int16_t"),
    "4": ("int", "int32", "int32_t"),
    "8": ("longlong", "long long", "long long int", "int64", "int64_t"),
}
_TYPES = {
    # A plain char may have either sign, so that NRRD has none.
    **{name: f"i{size}" for size, names in _INTEGERS.items() for name in names if name != "char"},
    **{f"signed {name}": f"i{size}" for size, names in _INTEGERS.items() for name in names},
    **{f"unsigned {name}": f"u{size}" for size, names in _INTEGERS.items() for name in names},
    **{f"u{name}": f"u{size}" for size, names in _INTEGERS.items() for name in names},
    "float": "f4",
    "double": "f8",
}
"""All spellings of the types of the format."""
_ORDERS = {"little": "<", "big": ">"}
_PACKINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
_SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
}
"""How the directions of a space are to be multiplied to run right, anterior, superior."""


def read_nrrd(file: Path) -> Volume:
    """Read one 3D image; axes of size 1 beside the three of space are dropped.

    Args:
        file: A ``.nrrd`` file, or a ``.nhdr`` header.

    Returns:
        The volume; ``voxels`` has the type of the file.

    Raises:
        DataError: If the file is missing, broken, not one 3D image in a known space, or too large.
    """
    return read_nrrd_with_fields(file)[0]


def read_nrrd_with_fields(file: Path) -> tuple[Volume, dict[str, str]]:
    """Read one 3D image, and the texts that programs such as 3D Slicer add to its header."""
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        with file.open("rb") as stream:
            fields = _read_fields(stream)
            volume = _read_volume(stream, fields, file)
    except (
        OSError,
        EOFError,
        IsalError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        nrrd.NRRDError,
    ) as error:
        raise DataError(f"{file}: not a readable NRRD file ({reason_of(error)})") from error
    return volume, {key: value for key, value in fields.items() if isinstance(value, str)}


def _read_fields(stream: IO[bytes]) -> dict[str, Any]:
    """Read the text header, and leave the stream behind it."""
    start = stream.read(MAX_TEXT_BYTES)
    if not start.startswith(b"NRRD"):
        raise ValueError("it has no NRRD header")
    ends = [start.find(blank) + len(blank) for blank in (b"\n\n", b"\r\n\r\n") if blank in start]
    end = min(ends, default=len(start))
    if not ends and len(start) == MAX_TEXT_BYTES:
        raise ValueError("its header does not end")
    stream.seek(end)
    with np.errstate(all="ignore"):
        return dict(nrrd.read_header(io.BytesIO(start[:end])))


def _read_volume(stream: IO[bytes], fields: Mapping[str, Any], file: Path) -> Volume:
    sizes = tuple(int(size) for size in fields["sizes"])
    if len(sizes) != int(fields["dimension"]) or min(sizes, default=0) < 1:
        raise ValueError(f"it claims {fields['dimension']} axes of the sizes {sizes}")
    affine, spatial = _read_geometry(fields, sizes, file)
    shape = tuple(sizes[axis] for axis in spatial)
    if int(np.prod(sizes, dtype=np.float64)) != int(np.prod(shape, dtype=np.float64)):
        raise DataError(
            f"{file}: expected one 3D volume, found the shape {sizes} with several values or time "
            "points per voxel"
        )
    dtype, packing = _read_type(fields), _PACKINGS.get(str(fields["encoding"]).lower())
    if packing is None:
        raise ValueError(f"expected raw, gzip or bzip2 voxels, found {fields['encoding']}")
    if any(int(fields.get(key, 0)) for key in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise ValueError("its voxels start behind a header of their own")
    data_file = fields.get("data file", fields.get("datafile"))
    if data_file is None:
        return _read_voxels(stream, file, shape, dtype, packing, affine, str(file))
    source = find_beside(file, str(data_file))
    with source.open("rb") as voxels:
        return _read_voxels(voxels, source, shape, dtype, packing, affine, str(file))


def _read_voxels(
    stream: IO[bytes],
    stored_in: Path,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    packing: str,
    affine: NDArray[np.float64],
    source: str,
) -> Volume:
    ratios = {"raw": 1, "gzip": MAX_DEFLATE_RATIO, "bzip2": MAX_BYTES}
    check_grid(shape, dtype, source=source, most=stored_in.stat().st_size * ratios[packing])
    voxels = read_raw_voxels(stream, shape, dtype, packing=packing)
    return build_volume(voxels, affine, source=source)


def _read_type(fields: Mapping[str, Any]) -> np.dtype[Any]:
    name = " ".join(str(fields["type"]).lower().split())
    if name not in _TYPES:
        raise ValueError(f"expected real numbers of at most 64 bits, found the type {name[:40]!r}")
    is_byte = _TYPES[name].endswith("1")
    return np.dtype(_TYPES[name] if is_byte else f"{_ORDERS[str(fields['endian'])]}{_TYPES[name]}")


def _read_geometry(
    fields: Mapping[str, Any], sizes: tuple[int, ...], file: Path
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Return the affine, and which three axes are those of space."""
    space = str(fields.get("space", "")).lower()
    if space not in _SPACES or "space directions" not in fields:
        raise DataError(
            f"{file}: does not say how it lies in the patient; expected a space such as "
            f"left-posterior-superior and space directions, found the space {space[:40]!r}"
        )
    units = [str(unit).strip('"').strip() for unit in fields.get("space units", ())]
    if any(unit not in ("", "mm", "millimeter", "millimeters") for unit in units):
        raise DataError(f"{file}: expected distances in mm, found the space units {units}")
    directions = np.asarray(fields["space directions"], np.float64)
    if directions.shape != (len(sizes), 3):
        raise ValueError("its space directions do not fit its axes")
    spatial = tuple(int(axis) for axis in np.flatnonzero(~np.isnan(directions).any(axis=1)))
    if len(spatial) != 3:
        raise DataError(f"{file}: expected a 3D volume, found {len(spatial)} axes of space")
    origin = np.asarray(fields.get("space origin", (0, 0, 0)), np.float64)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions[list(spatial)].T, origin
    affine[:3] *= np.array(_SPACES[space])[:, np.newaxis]
    return affine, spatial
