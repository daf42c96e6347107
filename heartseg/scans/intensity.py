"""From the intensities of a scan to what a network sees: windows, grey levels, normalisation."""

import math

import numpy as np
from numpy.typing import NDArray

MOST_CLIPPED = 0.5
"""A window that makes more of a scan white is of other units: on real scans it is up to 0.02."""
DARKEST = 0.02
"""A window in which nothing is brighter than this is of other units."""
BLOOD_PERCENTILE = 60.0
"""Of the voxels of a heart's structures: above their median, since borders and flow are darker."""
ENERGY_FRACTION = 0.65
"""About this part of the energy of a chest is that of voxels darker than blood."""


def find_window(
    image: NDArray[np.floating], window: str, window_range: tuple[float, float]
) -> tuple[float, float]:
    """Return the intensities that become black and white.

    Args:
        image: Intensities of the whole scan, any shape, finite.
        window: ``fixed`` (the range is in intensities) or ``percentile`` (of the scan).
        window_range: Lower and upper end.

    Returns:
        Lower and upper intensity. For a constant image the upper one is larger by 1, or by the
        smallest step of float64 where that is more than 1.
    """
    if window == "fixed":
        return window_range
    low, high = (float(value) for value in np.percentile(image, window_range))
    # Far from zero, adding 1 does not change a float64.
    return low, high if high > low else max(low + 1.0, math.nextafter(low, math.inf))


def find_clipping(image: NDArray[np.floating], limits: tuple[float, float]) -> str | None:
    """Say what is wrong with a window that leaves nothing of a scan to see; None if it does.

    Args:
        image: Intensities of the whole scan, any shape.
        limits: Intensities that become black and white.
    """
    low, high = limits
    sample = image[::2, ::2, ::2] if image.ndim == 3 else image
    above = np.count_nonzero(sample > high)
    bright = np.count_nonzero(sample > low)
    if above > MOST_CLIPPED * bright:
        return (
            f"the window from {low:g} to {high:g} makes {above / bright:.0%} of what is not black "
            f"white (intensities reach {float(sample.max()):g})"
        )
    brightest = float(image.max())
    if not brightest > low + DARKEST * (high - low):
        return (
            f"the window from {low:g} to {high:g} makes the scan black (intensities reach "
            f"{brightest:g})"
        )
    return None


def apply_window(image: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.float32]:
    """Scale intensities so that the window becomes [0, 1]; only clip beyond -1e6 and 1e6.

    Args:
        image: Intensities, any shape.
        limits: Intensities that become 0 (black) and 1 (white).

    Returns:
        Scaled intensities of the same shape.
    """
    low, high = limits
    # float64, because both ends of a narrow window may be the same float32 number. The bounds are
    # far from any grey level; they keep the interpolation that follows finite.
    with np.errstate(over="ignore"):
        scaled = (image.astype(np.float64) - low) / (high - low)
    return np.asarray(np.clip(scaled, -1e6, 1e6), np.float32)


def to_gray(windowed: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round windowed intensities to grey levels 0 to 255; values outside [0, 1] are clipped."""
    levels = windowed * np.float32(255)
    # In place, because allocating new arrays of this size takes a third of the time.
    np.rint(np.clip(levels, 0, 255, out=levels), out=levels)
    return np.asarray(levels, np.uint8)


def normalize(image: NDArray[np.float32], level: float) -> NDArray[np.float32]:
    """Scale an image so that blood is near 1, and clip it to [0, 2].

    Args:
        image: Intensities, 0 or more, any shape.
        level: Intensity of blood.

    Returns:
        Scaled intensities of the same shape; zeros if the image is all 0.
    """
    # The smallest number in place of 0: in the units of a scan, blood may be 1e-9.
    least = float(np.finfo(np.float32).tiny)
    return np.asarray(np.clip(image / max(level, least), 0, 2), np.float32)


def blood_level(image: NDArray[np.floating], heart: NDArray[np.bool_]) -> float:
    """Return the intensity of blood in a heart; what surrounds the heart has no effect.

    Args:
        image: Intensities, any shape.
        heart: The voxels of all structures, of the same shape.

    Returns:
        The intensity; 0 if ``heart`` is empty.
    """
    return float(np.percentile(image[heart], BLOOD_PERCENTILE)) if heart.any() else 0.0


def rough_level(image: NDArray[np.floating]) -> float:
    """Estimate the intensity of blood where the heart is not known yet.

    It is the intensity below which the voxels hold ``ENERGY_FRACTION`` of the energy (sum of
    squared intensities) of the image. A margin of zeros holds no energy and one of air hardly any,
    so neither changes the estimate much.

    Args:
        image: ``(X, Y, Z)`` intensities; those below 0 count as 0.

    Returns:
        The intensity; 0 if nothing is above 0.
    """
    part = image[::2, ::2, ::2].ravel()
    part = np.sort(part[part > 0])
    if not part.size:
        return 0.0
    # A few very bright voxels, such as fat near the coil, would hold too much of the energy.
    part = np.minimum(part, part[int(0.995 * (part.size - 1))])
    energy = np.cumsum(np.square(part, dtype=np.float64))
    return float(part[np.searchsorted(energy, energy[-1] * ENERGY_FRACTION)])
