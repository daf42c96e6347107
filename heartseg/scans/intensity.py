"""Intensities of a scan to the grey levels that the network sees."""

import math

import numpy as np
from numpy.typing import NDArray

REFERENCE_PERCENTILE = 92.0
"""The share of voxels of a box around a heart that are darker than blood."""


def find_window(
    image: NDArray[np.floating], window: str, window_range: tuple[float, float]
) -> tuple[float, float]:
    """Return the intensities that become black and white.

    Args:
        image: Intensities of the whole scan, any shape, finite.
        window: ``fixed`` (the range is in intensities) or ``percentile`` (of the scan).
        window_range: Lower and upper end.

    Returns:
        Lower and upper intensity; of a constant image the upper is one above the lower, or as near
        as it can be.
    """
    if window == "fixed":
        return window_range
    low, high = (float(value) for value in np.percentile(image, window_range))
    # Far from zero the next number is further than one.
    return low, high if high > low else max(low + 1.0, math.nextafter(low, math.inf))


def apply_window(image: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Scale intensities so that the window becomes [0, 1]; only extremes (1e6) are clipped.

    Args:
        image: Intensities, any shape.
        limits: Intensities that become 0 (black) and 1 (white).

    Returns:
        Scaled intensities of the same shape.
    """
    low, high = limits
    # Doubles: the ends of a window may be closer than float32 tells apart. The bound keeps the
    # interpolation that follows finite, far from any grey level.
    with np.errstate(over="ignore"):
        scaled = (image.astype(np.float64) - low) / (high - low)
    return np.asarray(np.clip(scaled, -1e6, 1e6), np.float32)


def to_gray(windowed: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round windowed intensities to grey levels 0 to 255; what lies outside [0, 1] is clipped."""
    levels = windowed * np.float32(255)
    # In place: new arrays of this size take a third of the time.
    np.rint(np.clip(levels, 0, 255, out=levels), out=levels)
    return np.asarray(levels, np.uint8)


def normalize(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale an image so that blood comes near 1, and cut off its brightest spots."""
    level = float(np.percentile(image[::2, ::2, ::2], REFERENCE_PERCENTILE))
    return np.asarray(np.clip(image / max(level, 1e-6), 0, 2), np.float32)
