"""What a phantom looks like to the scanner: tissues around the heart, intensities, noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.synthesis.phantom_anatomy import Anatomy
from heartseg.synthesis.shapes import FloatArray, Grid, ellipsoid, random_field, tube


@dataclass(frozen=True)
class Tissues:
    """Mean intensity of each tissue, as in images whose blood is near 0.8."""

    lung: float = 0.05
    blood: float = 0.80
    muscle: float = 0.37
    wall: float = 0.27
    mediastinum: float = 0.32
    fat: float = 0.62
    liver: float = 0.30
    bone: float = 0.27

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Tissues":
        """Vary the contrast between patients; blood stays the brightest tissue of the heart."""
        low, high = 0.85, 1.15
        return cls(
            lung=0.05 * rng.uniform(low, 1.6),
            blood=0.80 * rng.uniform(0.94, 1.06),
            muscle=0.37 * rng.uniform(low, high),
            wall=0.27 * rng.uniform(low, high),
            mediastinum=0.32 * rng.uniform(low, high),
            fat=rng.uniform(0.36, 0.66),
            liver=0.30 * rng.uniform(low, high),
            bone=0.27 * rng.uniform(low, high),
        )


def render_image(
    grid: Grid, anatomy: Anatomy, rng: np.random.Generator, *, voxel_mm: float
) -> NDArray[np.float64]:
    """Render the intensities that a scanner would measure.

    Args:
        grid: The voxels.
        anatomy: The heart.
        rng: Contrast, texture, bias field and noise.
        voxel_mm: Mean voxel size: tissues mix over this width at their boundaries.

    Returns:
        ``(X, Y, Z)`` intensities, about -0.03 to 2.8.
    """
    tissues = Tissues.draw(rng)
    signal = _paint_surroundings(grid, anatomy, tissues, rng, voxel_mm)
    texture = random_field(rng, grid.axes, 4.5)
    _paint(signal, anatomy.ventricles - rng.uniform(2, 4.5), tissues.fat, voxel_mm, strength=0.8)
    _paint(signal, anatomy.walls, tissues.wall, voxel_mm)
    _paint(signal, anatomy.ventricles, tissues.muscle, voxel_mm)
    _paint(signal, anatomy.beyond, tissues.blood, voxel_mm)
    for distance in anatomy.chambers.values():
        _paint(signal, distance, tissues.blood * rng.uniform(0.95, 1.04), voxel_mm)
    signal *= 1 + np.float32(0.045) * texture
    blurred: FloatArray = ndimage.gaussian_filter(signal, 0.45)
    return _measure(grid, blurred, rng)


def _paint_surroundings(
    grid: Grid, anatomy: Anatomy, tissues: Tissues, rng: np.random.Generator, voxel_mm: float
) -> FloatArray:
    """Return lungs with their vessels, mediastinum, liver, spine and chest wall."""
    signal = np.full(grid.shape, tissues.lung, np.float32)
    posterior, inferior, right = grid.points
    # Vessels of the lung: bright threads, denser towards the hilum.
    threads = np.abs(random_field(rng, grid.axes, 7.0))
    hilum = np.exp(-((posterior - 20) ** 2 / 900 + (inferior + 8) ** 2 / 1100)) * np.float32(0.62)
    patches = np.clip(random_field(rng, grid.axes, 9.0) + np.float32(0.5), 0, 1)
    signal += hilum * patches * np.clip(1 - threads / np.float32(0.42), 0, 1)

    mediastinum = np.minimum.reduce(
        [
            ellipsoid(grid.points, (-14, -36, 5), (34, 44, rng.uniform(25, 33))),
            ellipsoid(grid.points, (14, -22, 2), (26, 44, 20)),
            anatomy.walls - 1.5,
        ]
    )
    _paint(signal, mediastinum, tissues.mediastinum, 2 * voxel_mm)
    airway = tube(grid, [(17, -70, 8), (18, -40, 8), (19, -20, 6)], [6, 6, 5]).distance_mm
    _paint(signal, airway, tissues.lung, voxel_mm)

    dome = rng.uniform(46, 51)
    liver = np.minimum(
        ellipsoid(grid.points, (2, dome + 50, 28), (72, 52, 66)),
        ellipsoid(grid.points, (0, dome + 56, -30), (70, 50, 60)),
    )
    _paint(signal, np.maximum(liver - 1.6, -anatomy.ventricles), tissues.fat, voxel_mm)
    _paint(signal, liver, tissues.liver, voxel_mm)
    liver_vessels = np.maximum(liver + 5, np.abs(random_field(rng, grid.axes, 12.0)) * 8 - 1.2)
    _paint(signal, liver_vessels, tissues.liver * 1.7, 2 * voxel_mm)

    spine = np.sqrt((posterior - 60) ** 2 + (right - 4) ** 2) - np.float32(15)
    disc = np.abs(np.mod(inferior + rng.uniform(0, 22), 22) - 11) - np.float32(2.6)
    _paint(signal, spine - 4, tissues.mediastinum, voxel_mm)
    _paint(signal, spine, tissues.bone, voxel_mm)
    _paint(signal, np.maximum(spine, disc), tissues.bone * 0.6, voxel_mm)

    # The ribcage: an oval in each axial slice, narrower above.
    width, depth = 72 + inferior * 0.12, 55 + inferior * 0.13
    oval = np.sqrt(((posterior - 6) / depth) ** 2 + (right / width) ** 2)
    inwards = (1 - oval) * depth
    ribs = np.abs(np.mod(inferior + posterior * 0.5, 19) - 9.5) - np.float32(3.5)
    _paint(signal, inwards, tissues.mediastinum, voxel_mm)
    _paint(signal, np.maximum(np.abs(inwards + 5) - 3, ribs), tissues.bone * 0.7, voxel_mm)
    _paint(signal, inwards + 9, tissues.fat * 1.35, voxel_mm)
    return signal


def _measure(grid: Grid, signal: FloatArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Add what coils and electronics do: sensitivity, a bias field, Rician noise, an offset."""
    bias = np.exp(np.float32(rng.uniform(0.05, 0.12)) * random_field(rng, grid.axes, 60.0))
    bias /= bias.mean()
    front = grid.axes[0] - grid.axes[0][0]
    coil = 1 + np.float32(rng.uniform(0.6, 1.2)) * np.exp(-front / np.float32(7))
    received = signal * bias * coil[:, None, None]
    noise = np.float32(rng.uniform(0.025, 0.05))
    real, imaginary = rng.standard_normal((2, *grid.shape), dtype=np.float32) * noise
    magnitude = np.sqrt((received + real) ** 2 + imaginary**2)
    # Resampling leaves the data set slightly negative in air.
    return np.asarray(magnitude - np.float32(rng.uniform(0.015, 0.03)), np.float64)


def _paint(
    signal: FloatArray,
    distance_mm: FloatArray,
    value: float,
    width_mm: float,
    *,
    strength: float = 1.0,
) -> None:
    """Paint a tissue into ``signal``, in proportion to its share of each voxel."""
    share = np.clip(np.float32(0.5) - distance_mm / np.float32(width_mm), 0, np.float32(strength))
    signal += share * (np.float32(value) - signal)
