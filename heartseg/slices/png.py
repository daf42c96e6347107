"""PNG as bytes: packed and unpacked fast, and looked at before anything is unpacked.

The work is ISA-L's: packing slices and masks takes a third and an eighth of the time of OpenCV's
encoder, for smaller files, and unpacking them half of its decoder's
(docs/maintainers/benchmarks.md). Every other kind of PNG is left to OpenCV.
"""

import struct
import zlib

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from heartseg.files import MAX_DEFLATE_RATIO

MAX_PIXELS = 2**26
"""A larger picture is taken for a broken or hostile header."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {2: 0, 3: 2}
"""What PNG calls grey and RGB, by the number of the array's axes."""
_CHANNELS = {2: 1, 3: 3}
_UP = 2
"""The filter that keeps what differs from the row above: best for slices, no harm to masks."""


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Pack a picture; equal pictures give equal bytes.

    Args:
        image: ``(H, W)`` grey levels or ``(H, W, 3)`` RGB, not empty.

    References:
        Portable Network Graphics, third edition. https://www.w3.org/TR/png-3/
    """
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    data = _chunk(b"IDAT", isal_zlib.compress(filtered.data, 1))
    return _header(width, height, image.ndim) + data + _END


def unpack_png(content: bytes, axes: int) -> NDArray[np.uint8] | None:
    """Unpack a picture that ``encode_png`` packed, up to the sums of its rows.

    Args:
        content: The file.
        axes: 2 for a picture of ``(H, W)`` grey levels, 3 for one of ``(H, W, 3)`` RGB.

    Returns:
        What each row adds to the one above, ``(H, W)`` or ``(H, 3 * W)``; None if the picture is of
        another kind or packed otherwise, or broken.
    """
    if len(content) < _BEFORE_DATA + _AFTER_DATA:
        return None
    width, height = struct.unpack_from(">2I", content, len(_SIGNATURE) + 8)
    data = memoryview(content)[_BEFORE_DATA:-_AFTER_DATA]
    expected = _header(width, height, axes) + struct.pack(">I", len(data)) + b"IDAT"
    if not (content.startswith(expected) and content.endswith(_END)):
        return None
    if not 0 < width * height <= MAX_PIXELS:
        return None
    line = 1 + width * _CHANNELS[axes]
    unpacking = isal_zlib.decompressobj()
    try:
        filtered = np.frombuffer(unpacking.decompress(data, height * line), np.uint8)
    except isal_zlib.error:
        return None
    if not unpacking.eof or filtered.size != height * line or (filtered[::line] != _UP).any():
        return None
    return filtered.reshape(height, line)[:, 1:]


def sum_rows(
    differences: NDArray[np.uint8], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Return the rows of a picture from what each adds to the one above, modulo 256.

    Args:
        differences: ``(H, L)``, of the first row the row itself.
        out: Where to put them.
    """
    rows = np.empty_like(differences) if out is None else out
    np.copyto(rows, differences)
    reach = 1
    while reach < len(rows):
        # Each pass adds the sum of as many rows above as the row holds already.
        rows[reach:] += rows[:-reach]
        reach *= 2
    return rows


def _header(width: int, height: int, axes: int) -> bytes:
    content = struct.pack(">2I5B", width, height, 8, _COLOR_TYPES[axes], 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", content)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)))


_END = _chunk(b"IEND", b"")
_BEFORE_DATA, _AFTER_DATA = 41, 16
"""Bytes before the packed rows (signature, header, length, kind) and after (checksum, end)."""


def claims_too_much(content: bytes) -> bool:
    """Tell whether a PNG claims more pixels, or longer chunks, than its bytes can hold.

    OpenCV would set aside up to 4 GB for them before it finds out. What is no PNG claims nothing.
    """
    if not content.startswith(_SIGNATURE):
        return False
    if len(content) < 25:
        return True
    width, height, bits = struct.unpack_from(">2IB", content, 16)
    if width * height * bits > 8 * MAX_DEFLATE_RATIO * len(content):
        return True
    position = len(_SIGNATURE)
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        # Length, kind and checksum take 12 bytes.
        position += 12 + length
        if kind == b"IEND":
            break
    return position > len(content)
