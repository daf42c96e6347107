"""Voxels as NRRD and MetaImage store them: plain numbers, packed or not, first axis fastest."""

import bz2
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from heartseg.errors import DataError

_CHUNK = 2**20
_ZLIB_OR_GZIP = 47
"""Window bits by which zlib finds out which of both a stream is."""


def read_raw_voxels(
    stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], *, packing: str
) -> NDArray[Any]:
    """Read an array, unpacking no more than it needs.

    Args:
        stream: Stands where the voxels start.
        shape: Number of voxels along each axis, checked by the caller.
        dtype: Type of a voxel, with its byte order.
        packing: ``raw``, ``gzip``, ``bzip2`` or ``zlib``.

    Returns:
        The array in the byte order of this machine.

    Raises:
        EOFError: If the stream is too short.
        OSError, zlib.error or isal's error: If it is broken.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if packing == "zlib":
        content = _inflate(stream, size)
    elif packing == "raw":
        content = stream.read(size)
    else:
        with igzip.open(stream) if packing == "gzip" else bz2.open(stream) as unpacked:
            content = unpacked.read(size)
            # At the end of its stream the checksum is compared.
            unpacked.read(1)
    if len(content) < size:
        raise EOFError("the voxels are truncated")
    voxels = np.frombuffer(content, dtype).reshape(shape, order="F")
    # A copy that can be written to.
    return voxels.astype(dtype.newbyteorder("="))


def find_beside(header_file: Path, name: str) -> Path:
    """Return the file of voxels that a header names; it must lie beside the header or below.

    Raises:
        DataError: If it lies elsewhere or does not exist.
    """
    folder = header_file.parent.resolve()
    file = (folder / name).resolve()
    if "\0" in name or not file.is_relative_to(folder):
        raise DataError(f"{header_file}: its voxels lie outside of its folder; expected beside it")
    if not file.is_file():
        raise DataError(f"{header_file}: the file of its voxels, {name[:80]!r}, does not exist")
    return file


def _inflate(stream: IO[bytes], size: int) -> bytes:
    unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
    content = bytearray()
    while len(content) < size and not unpacker.eof:
        chunk = unpacker.unconsumed_tail or stream.read(_CHUNK)
        if not chunk:
            break
        content += unpacker.decompress(chunk, size - len(content))
    return bytes(content)
