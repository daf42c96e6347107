"""The plan of a phantom heart: its properties, and its sizes and positions drawn from a seed."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heartseg.synthesis.shapes import Point, rotation

Category = Literal["mild", "moderate", "severe"]
Missing = Literal["RV", "RA"]

_HEART_CENTER = np.array([0.0, 10.0, 0.0])


@dataclass(frozen=True)
class Heart:
    """The properties in which hearts differ.

    Attributes:
        category: How far the proportions deviate from the mean.
        missing: The structure that this heart lacks; its partner replaces it.
        inverted: Whether the ventricles have changed sides.
        seed: Seed of all sizes and positions.
    """

    category: Category
    missing: Missing | None
    inverted: bool
    seed: int


@dataclass
class Plan:
    """Draws the sizes and positions of one heart.

    Attributes:
        rng: Source of the random numbers.
        spread: How far sizes and positions deviate from the mean; 1 is usual.
        turn: ``(3, 3)`` rotation of the heart in the chest.
    """

    rng: np.random.Generator
    spread: float
    turn: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        angles = self.rng.uniform(-1, 1, 3) * np.array([10.0, 9.0, 10.0]) * self.spread
        self.turn = rotation((angles[0], angles[1], angles[2]))

    def size(self, mean: float, variation: float = 0.1) -> float:
        """Draw a length with a mean and a relative standard deviation."""
        return mean * float(np.clip(self.rng.normal(1, variation * self.spread), 0.72, 1.35))

    def radii(self, *means: float) -> Point:
        """Draw three half-axes with a common scale."""
        common = self.size(1.0, 0.07)
        first, second, third = (self.size(mean * common, 0.06) for mean in means)
        return (first, second, third)

    def place(self, p: float, i: float, r: float, jitter_mm: float = 1.3) -> Point:
        """Move a point a little, and turn it with the heart."""
        moved = np.array([p, i, r]) + self.rng.normal(0, jitter_mm * self.spread, 3)
        arm = moved - _HEART_CENTER
        # The far ends of vessels are fixed in the body and follow the heart less.
        follow = 1 / (1 + float((arm**2).sum()) / 50.0**2)
        return as_point(moved + follow * (self.turn @ arm - arm))


def as_point(vector: NDArray[np.float64]) -> Point:
    """Return a ``(3,)`` vector as plain numbers."""
    return (float(vector[0]), float(vector[1]), float(vector[2]))
