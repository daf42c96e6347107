"""The vessels of a phantom heart, and the outflow tracts of its ventricles.

Positions are in millimetres of a nominal adult, toward posterior, inferior and right from the
centre of the crop; they follow the mean positions and sizes of the structures in HVSMR-2.0.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from heartseg.synthesis.phantom_plan import Plan
from heartseg.synthesis.shapes import FAR_MM, FloatArray, Grid, Point, Tube, tube

_FLAT_MM = 0.01
"""A point whose nearest point is this near to an end of a centre line lies beyond that end."""


@dataclass(frozen=True)
class PulmonaryArtery:
    """The pulmonary trunk and its branches.

    Attributes:
        trunk: The trunk, from the valve to the fork.
        branches: The left and the right branch, each joined with the trunk, so that only the ends
            in the lungs are free.
        distance_mm: ``(X, Y, Z)`` signed distance to the wall of all of them.
    """

    trunk: Tube
    branches: list[Tube]
    distance_mm: FloatArray


@dataclass
class Vessels:
    """The tubes of one heart.

    Attributes:
        grid: The voxels.
        plan: Draws the sizes and positions.
        aortic_valve: End of the left outflow tract and start of the aorta.
        pulmonary_valve: End of the right outflow tract and start of the pulmonary trunk.
    """

    grid: Grid
    plan: Plan
    aortic_valve: Point = field(init=False)
    pulmonary_valve: Point = field(init=False)

    def __post_init__(self) -> None:
        self.aortic_valve = self.plan.place(-3, -1, 2, 0.6)
        self.pulmonary_valve = self.plan.place(-26, -11, -9)

    def _tube(self, stations: list[Point], *radii_mm: float, variation: float = 0.09) -> Tube:
        common = self.plan.size(1.0, variation)
        return tube(self.grid, stations, [radius * common for radius in radii_mm])

    def aorta(self) -> Tube:
        """Build the aorta: from the left ventricle over the arch and down along the spine."""
        place = self.plan.place
        stations = [
            self.aortic_valve, place(-7, -10, 10), place(-8, -24, 15), place(-4, -37, 13),
            place(7, -45, 6), place(20, -43, -4), place(30, -34, -11), place(35, -16, -13),
            place(37, 8, -13), place(38, 34, -11), place(39, 66, -8),
        ]  # fmt: skip
        return _cut_start(self._tube(stations, 10.5, 11.5, 11, 10.5, 10, 9.5, 9, 8.5, 8.2, 8, 8))

    def outflow(self, side: Literal["LV", "RV"]) -> FloatArray:
        """Return the distance to the tract that leads from a ventricle to its valve."""
        place = self.plan.place
        if side == "LV":
            tract = self._tube([place(-2, 14, -12), self.aortic_valve], 11, 10)
        else:
            stations = [place(-27, 14, -4), place(-30, -2, -8), self.pulmonary_valve]
            tract = self._tube(stations, 12, 11, 9)
        # A flat end at the valve, without the round cap of a tube, which would reach into the
        # vessel.
        ended = tract.along_mm >= tract.length_mm - _FLAT_MM
        return np.where(ended, np.float32(FAR_MM), tract.distance_mm)

    def pulmonary(self, *, from_lv: bool) -> PulmonaryArtery:
        """Build the pulmonary artery: from a ventricle to the fork and into both lungs.

        Args:
            from_lv: Whether it starts at the left ventricle; then it is narrower.
        """
        place = self.plan.place
        fork = place(2, -26, -8)
        start = place(-16, 2, -12) if from_lv else self.pulmonary_valve
        narrow = 0.75 if from_lv else 1.0
        trunk = self._tube([start, place(-18, -20, -10), fork], 9.5 * narrow, 10 * narrow, 9.5)
        trunk = _cut_start(trunk)
        left = self._tube(
            [fork, place(14, -29, -19), place(22, -25, -34), place(27, -18, -54)], 8.5, 8, 7, 3.5
        )
        right = self._tube(
            [fork, place(8, -25, 8), place(9, -22, 28), place(11, -16, 44), place(14, -8, 58)],
            8.5, 7.8, 7.4, 6.5, 3,
        )  # fmt: skip
        both = np.minimum.reduce([trunk.distance_mm, left.distance_mm, right.distance_mm])
        # The trunk has no free end, so its label covers it completely.
        branches = [
            Tube(np.minimum(branch.distance_mm, trunk.distance_mm),
                 np.where(trunk.distance_mm < branch.distance_mm, 0, branch.along_mm),
                 branch.length_mm)
            for branch in (left, right)
        ]  # fmt: skip
        return PulmonaryArtery(trunk, branches, both)

    def cavae(self) -> tuple[Tube, Tube]:
        """Build the superior and the inferior vena cava: from the right atrium out of the crop."""
        place = self.plan.place
        superior = self._tube(
            [place(-4, 0, 32), place(-4, -22, 31), place(-6, -44, 30), place(-8, -66, 31)],
            8.8, 8.6, 8.2, 7.6,
        )  # fmt: skip
        inferior = self._tube(
            [place(6, 20, 33), place(10, 36, 29), place(13, 50, 25), place(16, 68, 24)],
            9.8, 9.8, 9.6, 9.6,
        )  # fmt: skip
        return superior, inferior

    def pulmonary_veins(self) -> list[Tube]:
        """Build the four pulmonary veins: from the left atrium to both sides into the lungs."""
        place = self.plan.place
        starts = ((18, -8, -8), (20, 6, -8), (18, -8, 18), (20, 6, 18))
        ends = ((25, -13, -44), (28, 10, -44), (22, -11, 50), (26, 11, 50))
        return [
            self._tube([place(*start), place(*end)], 6.2, 3.8)
            for start, end in zip(starts, ends, strict=True)
        ]


def _cut_start(vessel: Tube) -> Tube:
    """Make the start of a vessel flat, at its valve, without the round cap of a tube."""
    before = vessel.along_mm <= _FLAT_MM
    distance = np.where(before, np.maximum(vessel.distance_mm, _FLAT_MM), vessel.distance_mm)
    return Tube(distance.astype(np.float32), vessel.along_mm, vessel.length_mm)
