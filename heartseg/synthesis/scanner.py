"""What a scanner shows of tissues: signal, texture, coils, motion, resolution and noise."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.scans.intensity import rough_level
from heartseg.scans.resampling import resample, sampling_matrix
from heartseg.synthesis.scene import Tissue

Shape = tuple[int, int, int]
FloatArray = NDArray[np.float32]


def smooth_field(
    rng: np.random.Generator, shape: Shape, knots: Shape, deviation: float = 1.0
) -> FloatArray:
    """Draw a smooth field over a grid.

    Args:
        rng: Source of the random numbers.
        shape: Points of the grid.
        knots: Independent values along each axis, between which the field is interpolated.
        deviation: About its standard deviation.
    """
    matrices = [
        sampling_matrix(side, count, width=1.0) for side, count in zip(shape, knots, strict=True)
    ]
    # Interpolation between independent knots takes a part of their deviation.
    values = np.float32(1.6 * deviation) * rng.standard_normal(knots, np.float32)
    return resample(values, matrices)


def _draw_contrast(rng: np.random.Generator) -> FloatArray:
    """Draw the signal of each tissue; blood is near 1."""
    signal = np.zeros(max(Tissue) + 1, np.float32)
    # Mostly alike: where one cavity opens into another, no edge tells them apart.
    signal[1:9] = rng.normal(1, rng.choice([0.015, 0.04, 0.08]), 8)
    if rng.random() < 0.25:
        signal[rng.integers(1, 9)] *= rng.uniform(0.55, 1.3)
    if rng.random() < 0.15:
        # Contrast medium of the first pass: one side of the circulation is darker.
        signal[rng.choice([[2, 4, 6, 7, 8], [1, 3, 5, 5, 5]])] *= rng.uniform(0.6, 0.95)
    muscle = rng.uniform(0.25, 0.72)
    fat = rng.uniform(0.05, 1.0) if rng.random() < 0.7 else rng.uniform(0.05, 0.4)
    soft = rng.uniform(0.6, 1.3) * muscle
    signal[Tissue.LUNG_VESSEL] = rng.uniform(0.4, 1.1)
    signal[Tissue.MEDIASTINUM] = rng.uniform(0.2, 0.9) * max(fat, 0.5)
    signal[Tissue.THYMUS] = rng.uniform(0.3, 0.8)
    signal[Tissue.LIVER] = rng.uniform(0.15, 0.85)
    signal[Tissue.SPLEEN] = rng.uniform(0.2, 1.1)
    signal[Tissue.BOWEL] = rng.uniform(0.05, 1.1)
    signal[Tissue.LIVER_VESSEL] = signal[Tissue.LIVER] + rng.uniform(-0.1, 0.6)
    signal[Tissue.ABDOMEN] = rng.uniform(0.1, 0.9)
    signal[Tissue.SPINE] = rng.uniform(0.15, 0.7)
    signal[Tissue.DISC] = rng.uniform(0.1, 0.8)
    signal[Tissue.CANAL] = rng.uniform(0.2, 1.2)
    signal[Tissue.MUSCLE] = soft
    signal[Tissue.RIB] = rng.uniform(0.05, 0.6)
    signal[Tissue.SKIN_FAT] = fat * rng.uniform(0.8, 1.8)
    signal[Tissue.VESSEL] = rng.normal(0.98, 0.1)
    signal[Tissue.HEART_FAT] = fat * rng.uniform(0.6, 1.1)
    signal[Tissue.EFFUSION] = rng.uniform(0.5, 1.15)
    signal[Tissue.WALL] = rng.uniform(0.2, 0.75)
    signal[Tissue.LV_MUSCLE] = muscle
    signal[Tissue.RV_MUSCLE] = muscle * rng.uniform(0.85, 1.15)
    air = rng.uniform(0, 0.22)
    signal[Tissue.LUNG] = air
    signal[Tissue.AIRWAY] = air * rng.uniform(0, 0.8)
    signal[Tissue.OUTSIDE] = rng.uniform(0, 0.05)
    return np.maximum(signal, 0)


def render(tissues: NDArray[np.uint8], rng: np.random.Generator) -> FloatArray:
    """Give each tissue its signal and texture, and blood its flow.

    Args:
        tissues: ``(P, I, R)`` values of ``Tissue``.
        rng: Decides the contrast.

    Returns:
        ``(P, I, R)`` signal, blood near 1.
    """
    shape = (tissues.shape[0], tissues.shape[1], tissues.shape[2])
    signal = _draw_contrast(rng)
    seen = signal[tissues]
    texture = smooth_field(rng, shape, (18, 24, 18), rng.uniform(0, 0.2))
    texture += smooth_field(rng, shape, (8, 10, 8), rng.uniform(0, 0.12))
    # Blood is smoother than what surrounds it.
    rough = np.full(len(signal), 1.0, np.float32)
    rough[1:9] = rng.uniform(0.2, 0.7)
    seen *= 1 + texture * rough[tissues]
    if rng.random() < 0.35:
        jets = np.clip(smooth_field(rng, shape, (9, 12, 9)) - rng.uniform(1.1, 2.0), 0, 1)
        is_blood = (tissues >= 1) & (tissues <= 8)
        seen *= 1 - np.float32(rng.uniform(0.4, 1.0)) * jets * is_blood
    return np.asarray(seen, np.float32)


def vary(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Change the contrast of a real scan; what is dark stays darker than what is bright.

    Args:
        image: Intensities, any shape.
        rng: Decides how much.

    Returns:
        Intensities of the same shape, blood near 1.
    """
    level = max(rough_level(image), 1e-6)
    scaled = np.clip(image / level, 0, 3)
    return np.asarray(scaled ** np.float32(np.exp(rng.normal(0, 0.25))), np.float32)


def measure(signal: FloatArray, rng: np.random.Generator, *, strength: float) -> FloatArray:
    """Do what coils, sampling, motion and electronics do.

    Args:
        signal: ``(P, I, R)`` true signal, blood near 1.
        rng: Decides how much.
        strength: 1 for a rendered scene; less for a scan, which was measured once already.

    Returns:
        ``(P, I, R)`` intensities.
    """
    shape = (signal.shape[0], signal.shape[1], signal.shape[2])
    bias = smooth_field(rng, shape, (3, 3, 3), strength * rng.uniform(0, 0.22))
    front = np.linspace(1, 0, shape[0], dtype=np.float32)[:, np.newaxis, np.newaxis]
    bias += np.float32(strength * rng.uniform(-0.2, 0.9)) * front ** np.float32(rng.uniform(1, 4))
    seen = signal * np.exp(bias)
    if rng.random() < 0.1 * strength:
        axis, offset = int(rng.integers(0, 3)), int(rng.integers(6, 20))
        seen = seen + np.float32(rng.uniform(0.03, 0.12)) * np.roll(seen, offset, axis)
    blur = strength * rng.uniform(0.2, 1.0, 3)
    if rng.random() < 0.25:
        # Thick slices.
        blur[rng.integers(0, 3)] = strength * rng.uniform(1.0, 3.0)
    noise = strength * rng.uniform(0.0, 0.1) if rng.random() < 0.85 else rng.uniform(0.1, 0.2)
    correlated = rng.random() < 0.5
    if correlated:
        seen = seen + _noise(shape, noise, rng)
    seen = ndimage.gaussian_filter(seen, blur, truncate=2.5)
    if not correlated:
        # Rician: the magnitude of a noisy complex signal.
        seen = np.hypot(seen + _noise(shape, noise, rng), _noise(shape, noise, rng))
    if rng.random() < 0.05:
        seen = _keep_few_slices(seen, rng)
    return np.asarray(np.abs(seen), np.float32)


def _keep_few_slices(seen: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Keep a handful of sagittal slices, and fill the gaps between them by interpolation."""
    side = seen.shape[2]
    kept = np.sort(rng.choice(side, int(rng.integers(5, 20)), replace=False))
    after = np.clip(np.searchsorted(kept, np.arange(side)), 1, len(kept) - 1)
    low, high = kept[after - 1], kept[after]
    share = np.clip((np.arange(side) - low) / (high - low), 0, 1).astype(np.float32)
    return seen[..., low] * (1 - share) + seen[..., high] * share


def _noise(shape: Shape, deviation: float, rng: np.random.Generator) -> FloatArray:
    return np.float32(deviation) * rng.standard_normal(shape, np.float32)
