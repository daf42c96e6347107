"""The data of a page, packed small: voxels as bytes, surfaces as whole numbers, all deflated."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from heartseg.pages.scan_page import ScanPage, Surface
from heartseg.pictures.framing import HeartBox, frame_box, see_image, see_labels

MAX_VOXELS = 5_000_000
"""A scan of pure noise then takes 7 MB of the page; real ones pack to three fifths."""
_RANGE_PERCENTILES = (0.05, 99.95)
"""What the window can be set to: all but the extremes of what is shown."""


def pack_scan(page: ScanPage, box: HeartBox) -> dict[str, Any]:
    """Bring image and labels onto cubes along the patient's axes, and pack them.

    Args:
        page: The scan.
        box: What of the patient is packed.

    Returns:
        ``shape`` (slices toward superior, rows toward anterior, columns toward right), ``step``
        (mm), ``origin`` (mm of the first voxel: right, anterior, superior), ``image`` (bytes, each
        row the differences of neighbours), ``labels`` (bytes), ``range`` (intensities of the bytes
        0 and 255), ``window`` (bytes that are black and white at first), ``cursor`` (the voxel at
        the heart's centre: column, row, slice).
    """
    finest_mm = float(np.linalg.norm(page.affine[:3, :3], axis=0).min())
    step_mm = max(finest_mm, float(np.prod(box.extent_mm) / MAX_VOXELS) ** (1 / 3))
    frame = frame_box(box, step_mm=step_mm)
    low, high = page.window
    image = see_image(page.image, page.affine, frame, outside=low)
    ends = np.percentile(image[::2, ::2, ::2], _RANGE_PERCENTILES)
    low, high = min(low, float(ends[0])), max(high, float(ends[1]))
    levels = _to_bytes(image, low, high)
    # Differences take a fifth less room: the first of a row is its own value.
    levels[..., 1:] -= levels[..., :-1].copy()
    origin = frame.affine[:3, 3]
    cursor = np.rint((box.center_mm - origin) / step_mm).astype(int)
    return {
        "shape": list(frame.shape),
        "step": round(step_mm, 6),
        "origin": [round(float(value), 4) for value in origin],
        "image": _pack(levels),
        "labels": _pack(see_labels(page.labels, page.affine, frame)),
        "range": [low, high],
        "window": [float(value) for value in _to_bytes(np.array(page.window), low, high)],
        "cursor": np.clip(cursor, 0, np.array(frame.shape[::-1]) - 1).tolist(),
    }


def pack_surfaces(surfaces: Sequence[Surface], box: HeartBox) -> list[dict[str, Any]]:
    """Pack surfaces with vertices in 65536 steps along each side of a box around all of them.

    Args:
        surfaces: The surfaces; those without triangles are left out.
        box: What of the patient is shown.

    Returns:
        For each ``value``, ``low`` and ``step`` (mm) of its vertices, ``vertices`` (16 bits) and
        ``triangles`` (32 bits), little-endian.
    """
    packed = []
    for surface in surfaces:
        if not len(surface.triangles):
            continue
        vertices = np.asarray(surface.vertices_mm, np.float64)
        low = np.minimum(box.low_mm, vertices.min(axis=0))
        high = np.maximum(box.high_mm, vertices.max(axis=0))
        step = float((high - low).max()) / 65535
        packed.append(
            {
                "value": surface.value,
                "low": [round(float(value), 4) for value in low],
                "step": step,
                "vertices": _pack(np.rint((vertices - low) / step).astype("<u2")),
                "triangles": _pack(surface.triangles.astype("<u4")),
            }
        )
    return packed


def _to_bytes(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Map intensities from low to high to 0 to 255."""
    scale = 255 / max(high - low, float(np.finfo(np.float32).tiny))
    return np.asarray(np.rint(np.clip((values - low) * scale, 0, 255)), np.uint8)


def _pack(array: NDArray[Any]) -> str:
    content = isal_zlib.compress(
        np.ascontiguousarray(array).tobytes(), isal_zlib.ISAL_BEST_COMPRESSION
    )
    return base64.b64encode(content).decode("ascii")
