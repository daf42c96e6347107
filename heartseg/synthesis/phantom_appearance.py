"""The appearance of a phantom in a scan: tissues around the heart, intensities, noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.synthesis.phantom_anatomy import Anatomy
from heartseg.synthesis.shapes import FloatArray, Grid, ellipsoid, random_field, tube


@dataclass(frozen=True)
class Tissues:
    """Mean intensity of each tissue, on a scale on which blood is near 0.8."""

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
        """Draw the contrast of one patient; blood is always the brightest tissue of the heart."""
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


@dataclass(frozen=True)
class _Canvas:
    """An image that tissues are painted on.

    Attributes:
        grid: The voxels.
        signal: ``(X, Y, Z)`` intensities, changed by ``paint``.
        voxel_mm: Mean voxel size: two tissues mix over this width at their boundary.
        rng: Source of the random numbers.
        tissues: Mean intensities.
    """

    grid: Grid
    signal: FloatArray
    voxel_mm: float
    rng: np.random.Generator
    tissues: Tissues

    def paint(
        self,
        distance_mm: FloatArray,
        value: float,
        *,
        width: float = 1.0,
        strength: float = 1.0,
    ) -> None:
        """Paint a tissue, in proportion to its partial-volume fraction in each voxel.

        Args:
            distance_mm: ``(X, Y, Z)`` signed distance to the tissue.
            value: Intensity of the tissue.
            width: Width of its boundary in voxels.
            strength: Largest fraction of the tissue in a voxel.
        """
        fraction = np.clip(
            np.float32(0.5) - distance_mm / np.float32(width * self.voxel_mm),
            0,
            np.float32(strength),
        )
        signal = self.signal
        signal += fraction * (np.float32(value) - signal)


def render_image(
    grid: Grid, anatomy: Anatomy, rng: np.random.Generator, *, voxel_mm: float
) -> NDArray[np.float64]:
    """Render the intensities that a scanner would measure.

    Args:
        grid: The voxels.
        anatomy: The heart.
        rng: Source of the contrast, texture, bias field and noise.
        voxel_mm: Mean voxel size: two tissues mix over this width at their boundary.

    Returns:
        ``(X, Y, Z)`` intensities, about -0.03 to 2.8.
    """
    tissues = Tissues.draw(rng)
    canvas = _Canvas(grid, np.full(grid.shape, tissues.lung, np.float32), voxel_mm, rng, tissues)
    _paint_lung_vessels(canvas)
    _paint_mediastinum(canvas, anatomy)
    _paint_liver(canvas, anatomy)
    _paint_spine(canvas)
    _paint_ribcage(canvas)
    texture = random_field(rng, grid.axes, 4.5)
    canvas.paint(anatomy.ventricles - rng.uniform(2, 4.5), tissues.fat, strength=0.8)
    canvas.paint(anatomy.walls, tissues.wall)
    canvas.paint(anatomy.ventricles, tissues.muscle)
    canvas.paint(anatomy.beyond, tissues.blood)
    for distance in anatomy.chambers.values():
        canvas.paint(distance, tissues.blood * rng.uniform(0.95, 1.04))
    signal = canvas.signal * (1 + np.float32(0.045) * texture)
    blurred: FloatArray = ndimage.gaussian_filter(signal, 0.45)
    return _measure(grid, blurred, rng)


def _paint_lung_vessels(canvas: _Canvas) -> None:
    """Paint bright threads, denser near the hilum."""
    posterior, inferior, _ = canvas.grid.points
    threads = np.abs(random_field(canvas.rng, canvas.grid.axes, 7.0))
    hilum = np.exp(-((posterior - 20) ** 2 / 900 + (inferior + 8) ** 2 / 1100)) * np.float32(0.62)
    field = random_field(canvas.rng, canvas.grid.axes, 9.0)
    patches = np.clip(field + np.float32(0.5), 0, 1)
    signal = canvas.signal
    signal += hilum * patches * np.clip(1 - threads / np.float32(0.42), 0, 1)


def _paint_mediastinum(canvas: _Canvas, anatomy: Anatomy) -> None:
    """Paint the tissue between the lungs, with an airway."""
    points = canvas.grid.points
    mediastinum = np.minimum.reduce(
        [
            ellipsoid(points, (-14, -36, 5), (34, 44, canvas.rng.uniform(25, 33))),
            ellipsoid(points, (14, -22, 2), (26, 44, 20)),
            anatomy.walls - 1.5,
        ]
    )
    canvas.paint(mediastinum, canvas.tissues.mediastinum, width=2)
    airway = tube(canvas.grid, [(17, -70, 8), (18, -40, 8), (19, -20, 6)], [6, 6, 5])
    canvas.paint(airway.distance_mm, canvas.tissues.lung)


def _paint_liver(canvas: _Canvas, anatomy: Anatomy) -> None:
    """Paint the liver with its vessels, and fat between it and the heart."""
    points, tissues = canvas.grid.points, canvas.tissues
    dome = canvas.rng.uniform(46, 51)
    liver = np.minimum(
        ellipsoid(points, (2, dome + 50, 28), (72, 52, 66)),
        ellipsoid(points, (0, dome + 56, -30), (70, 50, 60)),
    )
    canvas.paint(np.maximum(liver - 1.6, -anatomy.ventricles), tissues.fat)
    canvas.paint(liver, tissues.liver)
    threads = np.abs(random_field(canvas.rng, canvas.grid.axes, 12.0))
    canvas.paint(np.maximum(liver + 5, threads * 8 - 1.2), tissues.liver * 1.7, width=2)


def _paint_spine(canvas: _Canvas) -> None:
    """Paint the vertebrae and the discs between them."""
    posterior, inferior, right = canvas.grid.points
    tissues = canvas.tissues
    spine = np.sqrt((posterior - 60) ** 2 + (right - 4) ** 2) - np.float32(15)
    disc = np.abs(np.mod(inferior + canvas.rng.uniform(0, 22), 22) - 11) - np.float32(2.6)
    canvas.paint(spine - 4, tissues.mediastinum)
    canvas.paint(spine, tissues.bone)
    canvas.paint(np.maximum(spine, disc), tissues.bone * 0.6)


def _paint_ribcage(canvas: _Canvas) -> None:
    """Paint the chest wall: an oval in each axial slice, narrower toward superior."""
    posterior, inferior, right = canvas.grid.points
    tissues = canvas.tissues
    width, depth = 72 + inferior * 0.12, 55 + inferior * 0.13
    oval = np.sqrt(((posterior - 6) / depth) ** 2 + (right / width) ** 2)
    inwards = (1 - oval) * depth
    ribs = np.abs(np.mod(inferior + posterior * 0.5, 19) - 9.5) - np.float32(3.5)
    canvas.paint(inwards, tissues.mediastinum)
    canvas.paint(np.maximum(np.abs(inwards + 5) - 3, ribs), tissues.bone * 0.7)
    canvas.paint(inwards + 9, tissues.fat * 1.35)


def _measure(grid: Grid, signal: FloatArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """Add the effects of coils and electronics: sensitivity, bias field, Rician noise, offset."""
    bias = np.exp(np.float32(rng.uniform(0.05, 0.12)) * random_field(rng, grid.axes, 60.0))
    bias /= bias.mean()
    front = grid.axes[0] - grid.axes[0][0]
    coil = 1 + np.float32(rng.uniform(0.6, 1.2)) * np.exp(-front / np.float32(7))
    received = signal * bias * coil[:, None, None]
    noise = np.float32(rng.uniform(0.025, 0.05))
    real, imaginary = rng.standard_normal((2, *grid.shape), dtype=np.float32) * noise
    magnitude = np.sqrt((received + real) ** 2 + imaginary**2)
    # In the data set, air is slightly negative after resampling.
    return np.asarray(magnitude - np.float32(rng.uniform(0.015, 0.03)), np.float64)
