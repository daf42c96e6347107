"""Scenes: a chest drawn around a real label map, so that images can be made without a scan.

A label map says where the blood of up to eight structures is, and perhaps the muscle of the left
ventricle. A scene says what lies everywhere else in
the box: the muscle around the ventricles, walls, fat, lungs and their vessels, liver, spine, chest
wall, and the vessels that go on where the labels end. Distances are those of an adult: hearts of
all sizes are measured in their own size. Arrays have the axes toward posterior, inferior, right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.labels import HVSMR, LabelTable
from heartseg.scans.nearest import resize_labels
from heartseg.synthesis.shapes import Grid, Point, build_grid, ellipsoid, random_field, tube

SCENE_GRID = (72, 96, 72)
"""Voxels along the box around a heart: one and a half times what the packaged network sees."""
ADULT_ML = 600.0
"""Volume of all structures of an adult, to which distances refer."""
_LV, _RV, _LA, _RA, _AO, _PA, _SVC, _IVC = range(1, 9)
_BEND_MM = 5.0
_END_MM = 5.0
"""Length of the end of a vessel from which its width and direction are taken."""


class Tissue(IntEnum):
    """What a voxel of a scene is made of; 1 to 8 are the blood of the labelled structures."""

    LUNG = 0
    LUNG_VESSEL = 9
    MEDIASTINUM = 10
    THYMUS = 11
    LIVER = 12
    LIVER_VESSEL = 13
    ABDOMEN = 14
    SPINE = 15
    DISC = 16
    CANAL = 17
    MUSCLE = 18
    RIB = 19
    SKIN_FAT = 20
    OUTSIDE = 21
    AIRWAY = 22
    VESSEL = 23
    HEART_FAT = 24
    EFFUSION = 25
    WALL = 26
    RV_MUSCLE = 27
    LV_MUSCLE = 28
    SPLEEN = 29
    BOWEL = 30


TISSUE_OF: Mapping[str, int] = {
    **{structure.key: structure.value for structure in HVSMR.foreground},
    "MYO": Tissue.LV_MUSCLE,
}
"""What the structures of a label table are made of, by key: those that scenes can hold."""


def tissues_of(table: LabelTable) -> NDArray[np.uint8]:
    """Return ``(num_classes,)`` uint8, the tissue of each label, 0 for the background.

    Raises:
        DataError: If the table has a structure that scenes do not know.
    """
    unknown = [s.key for s in table.foreground if s.key.upper() not in TISSUE_OF]
    if unknown:
        raise DataError(
            f"synthesis: no scene can be drawn around {', '.join(unknown)}; scenes know "
            f"{', '.join(TISSUE_OF)}. Pass --set synthesis.scan_share=1 to train on scans alone"
        )
    return np.array([0, *(TISSUE_OF[s.key.upper()] for s in table.foreground)], np.uint8)


def labels_by_tissue(table: LabelTable) -> NDArray[np.uint8]:
    """Return ``(tissues,)`` uint8, the label of each tissue; see ``tissues_of``."""
    labels = np.zeros(max(Tissue) + 1, np.uint8)
    labels[tissues_of(table)[1:]] = np.arange(1, table.num_classes)
    return labels


_HVSMR_LABELS = labels_by_tissue(HVSMR)


@dataclass(frozen=True)
class Scene:
    """A chest with a heart of known labels.

    Attributes:
        tissues: ``(P, I, R)`` uint8, values of ``Tissue``, 1 to 8 for the blood of the structures
            of HVSMR-2.0.
        label_of: ``(tissues,)`` uint8, the label of each tissue; see ``labels_by_tissue``.
    """

    tissues: NDArray[np.uint8]
    label_of: NDArray[np.uint8] = field(default_factory=lambda: _HVSMR_LABELS)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """``(P, I, R)`` uint8 labels."""
        return self.label_of[self.tissues]


def paint_scene(
    labels: NDArray[np.integer],
    spacing_mm: Point,
    rng: np.random.Generator,
    *,
    grid: tuple[int, int, int] = SCENE_GRID,
    margin: float = 0.0,
    table: LabelTable = HVSMR,
) -> Scene:
    """Draw a chest around the heart of a label map.

    Args:
        labels: ``(P, I, R)`` labels of the table over a box around the heart.
        spacing_mm: Size of a voxel.
        rng: Decides what the chest looks like.
        grid: Voxels over the box of the label map.
        margin: What is drawn beyond the box on each side, as a fraction of the box: 0.7 shows most
            of a chest.
        table: What the labels mean.

    Raises:
        DataError: If the table has a structure that scenes do not know.
        ValueError: If nothing is labelled.
    """
    if not labels.any():
        raise ValueError("a scene needs a label map with a heart")
    volume_ml = np.count_nonzero(labels) * float(np.prod(spacing_mm)) / 1000
    scale = (volume_ml / ADULT_ML) ** (1 / 3)
    step = [
        mm * given / wanted / scale
        for mm, given, wanted in zip(spacing_mm, labels.shape, grid, strict=True)
    ]
    step_mm = (step[0], step[1], step[2])
    held = resize_labels(tissues_of(table)[labels], grid)
    held = np.pad(held, [(round(margin * side),) * 2 for side in grid])
    held = _vary_anatomy(held, step_mm, rng)
    shape = (held.shape[0], held.shape[1], held.shape[2])
    painter = _Painter(build_grid(shape, step_mm, rng, bend_mm=_BEND_MM), held, step_mm, rng)
    painter.paint()
    return Scene(painter.tissues, labels_by_tissue(table))


def _vary_anatomy(
    labels: NDArray[np.uint8], step_mm: Point, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Make some hearts rarer: without a structure, or with one ventricle or atrium for two."""
    draw = rng.random()
    if draw < 0.06:
        # What surrounds it closes in.
        gone = rng.choice([_RV, _PA, _SVC, _IVC])
        left = np.where(labels == gone, 0, labels).astype(np.uint8)
        # Of a table with few structures nothing may be left.
        return left if left.any() else labels
    if draw < 0.12:
        return merge_cavities(labels, _LA, _RA, step_mm, septum_mm=rng.uniform(5, 9))
    if draw < 0.18:
        return merge_cavities(labels, _LV, _RV, step_mm, septum_mm=rng.uniform(8, 14))
    return labels


def merge_cavities(
    labels: NDArray[np.uint8], kept: int, other: int, step_mm: Point, *, septum_mm: float
) -> NDArray[np.uint8]:
    """Give two cavities one label and take the septum between them away.

    Args:
        labels: ``(P, I, R)`` label map.
        kept: The label of both afterwards.
        other: The label that goes.
        step_mm: Size of a voxel.
        septum_mm: Background that lies between both becomes a part of them where their distances
            from it are less than this together.
    """
    if not (labels == kept).any():
        # The table may lack it: then nothing has its label.
        return labels
    sides = [_distance_to(labels == value, step_mm) for value in (kept, other)]
    joined = (labels == other) | ((labels == 0) & (sides[0] + sides[1] < septum_mm))
    return np.where(joined, kept, labels).astype(np.uint8)


def _distance_to(mask: NDArray[np.bool_], step_mm: Point) -> NDArray[np.float64]:
    """Return how far each voxel lies from a mask; infinity everywhere if it is empty."""
    from scipy import ndimage

    if not mask.any():
        return np.full(mask.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=step_mm))


class _Painter:
    """Paints one scene, from what lies farthest from the heart to the heart itself."""

    def __init__(
        self, grid: Grid, labels: NDArray[np.uint8], step_mm: Point, rng: np.random.Generator
    ) -> None:
        self.grid, self.labels, self.rng = grid, labels, rng
        self._step_mm = step_mm
        self.tissues = np.full(labels.shape, Tissue.LUNG, np.uint8)
        self._p, self._i, self._r = grid.points
        chambers = self._places(_LV, _RV, _LA, _RA)
        everything = self._places(*range(1, 9), Tissue.LV_MUSCLE)
        self._middle = (chambers if len(chambers) else everything).mean(axis=0)
        self._front = float(np.percentile(everything[:, 0], 2))
        self._bottom = float(np.percentile((chambers if len(chambers) else everything)[:, 1], 98))

    def paint(self) -> None:
        """Fill ``tissues``."""
        around = self._distance(self.labels > 0)
        self._paint_lungs()
        self._paint_mediastinum(around)
        self._paint_airways()
        self._paint_abdomen()
        self._paint_spine()
        self._paint_chest_wall()
        self._paint_heart(around)
        heart = self.labels > 0
        self.tissues[heart] = self.labels[heart]

    def _fill(self, distance_mm: NDArray[np.floating], tissue: Tissue) -> None:
        self.tissues[distance_mm < 0] = tissue

    def _field(self, wavelength_mm: float) -> NDArray[np.float32]:
        return random_field(self.rng, self.grid.axes, wavelength_mm)

    def _distance(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how far each voxel lies from a mask, in mm of an adult."""
        return _distance_to(mask, self._step_mm)

    def _places(self, *values: int) -> NDArray[np.float64]:
        """Return the ``(N, 3)`` coordinates of labelled voxels."""
        # Bent like all that is drawn, so that a vessel goes on exactly where its label ends.
        found = np.isin(self.labels, values)
        return np.asarray(self.grid.points[:, found].T, np.float64)

    def _paint_lungs(self) -> None:
        """Bright threads, denser towards the middle."""
        rng = self.rng
        p, i, r = self._middle
        density = rng.uniform(0.1, 0.5)
        reach = ((self._p - p - 10) / 45) ** 2 + ((self._i - i + 12) / 45) ** 2
        reach = reach + ((self._r - r) / 75) ** 2
        patches = self._field(11.0) - 0.4 + 1.6 * np.exp(-reach)
        threads = np.abs(self._field(rng.uniform(6.0, 11.0)))
        self._fill(threads - np.clip(density * patches, 0, 0.6), Tissue.LUNG_VESSEL)

    def _paint_mediastinum(self, around: NDArray[np.float64]) -> None:
        rng = self.rng
        p, i, r = self._middle
        thickness = rng.uniform(2, 9) + rng.uniform(1, 4) * self._field(22.0)
        self._fill(around - thickness, Tissue.MEDIASTINUM)
        behind = ellipsoid(
            self.grid.points,
            (p + rng.uniform(22, 34), i - 25, r + rng.uniform(-6, 6)),
            (rng.uniform(10, 20), 70, rng.uniform(14, 24)),
        )
        self._fill(behind, Tissue.MEDIASTINUM)
        if rng.random() < 0.6:
            before = ellipsoid(
                self.grid.points,
                (self._front + rng.uniform(0, 14), i - rng.uniform(30, 55), r + rng.normal(0, 8)),
                (rng.uniform(10, 24), rng.uniform(20, 45), rng.uniform(14, 32)),
            )
            self._fill(before + 3 * self._field(18.0), Tissue.THYMUS)

    def _paint_airways(self) -> None:
        rng = self.rng
        p, i, r = self._middle
        fork = (p + rng.uniform(20, 28), i - rng.uniform(28, 42), r + rng.normal(0, 5))
        top = (fork[0] - rng.uniform(0, 12), fork[1] - 70, fork[2])
        width = rng.uniform(4, 7.5)
        self._tube([top, fork], [width, width], Tissue.AIRWAY)
        for side in (-1, 1):
            end = (fork[0] + 8, fork[1] + rng.uniform(18, 34), fork[2] + side * rng.uniform(22, 36))
            self._tube([fork, end], [0.8 * width, 0.5 * width], Tissue.AIRWAY)

    def _paint_abdomen(self) -> None:
        """The liver on the right, other organs and air on the left, below the diaphragm."""
        rng = self.rng
        p, _, r = self._middle
        dome = self._bottom + rng.uniform(-3, 9) + 3 * self._field(30.0)
        dome = dome + rng.uniform(4, 16) * ((self._r - r - rng.uniform(-5, 35)) / 55) ** 2
        dome = dome + rng.uniform(2, 12) * ((self._p - p - rng.uniform(-20, 15)) / 50) ** 2
        below = dome - self._i
        self._fill(below - rng.uniform(0, 3), Tissue.MEDIASTINUM)
        self._fill(below, Tissue.ABDOMEN)
        bowel = self._field(rng.uniform(9.0, 20.0)) + rng.uniform(-0.6, 0.6)
        self._fill(np.maximum(below, bowel), Tissue.BOWEL)
        spleen = ellipsoid(
            self.grid.points,
            (p + rng.uniform(10, 50), self._bottom + rng.uniform(10, 45), r - rng.uniform(55, 85)),
            (rng.uniform(22, 40), rng.uniform(25, 50), rng.uniform(15, 30)),
        )
        self._fill(np.maximum(spleen + 3 * self._field(22.0), below + 2), Tissue.SPLEEN)
        border = r + rng.uniform(-60, -5) + 8 * self._field(30.0)
        self._fill(np.maximum(below, border - self._r), Tissue.LIVER)
        vessels = np.abs(self._field(14.0)) * 10 - rng.uniform(0.6, 2.2)
        self._fill(
            np.maximum(np.maximum(below + 4, border - self._r), vessels), Tissue.LIVER_VESSEL
        )
        for side in (-1, 1):
            kidney = ellipsoid(
                self.grid.points,
                (
                    p + rng.uniform(35, 60),
                    self._bottom + rng.uniform(70, 110),
                    r + side * rng.uniform(40, 60),
                ),
                (rng.uniform(20, 28), rng.uniform(40, 58), rng.uniform(20, 28)),
            )
            self._fill(np.maximum(kidney, below + 2), Tissue.SPLEEN)
        if rng.random() < 0.4:
            bubble = ellipsoid(
                self.grid.points,
                (p - rng.uniform(0, 30), self._bottom + rng.uniform(14, 30), r - 45),
                (20, 16, 25),
            )
            self._fill(np.maximum(bubble, below), Tissue.AIRWAY)

    def _paint_spine(self) -> None:
        rng = self.rng
        p, _, r = self._middle
        # The descending aorta lies beside the spine, mostly on its left.
        aorta = self._places(_AO)
        descending = aorta[aorta[:, 0] > p + 15] if len(aorta) else aorta
        if len(descending) > 30:
            p, r = descending[:, 0].mean(), descending[:, 2].mean()
            side = -1 if r > self._middle[2] + 22 else 1
            p, r = p + rng.uniform(0, 14), r + side * rng.uniform(14, 25)
        else:
            p, r = p + rng.uniform(45, 60), r + rng.normal(0, 8)
        curve = 0.06 * rng.normal() * self._i
        radius = rng.uniform(12, 17)
        body = np.sqrt((self._p - p - curve) ** 2 + (self._r - r) ** 2) - radius
        back = ellipsoid(
            self.grid.points, (p + 38, 0, r), (rng.uniform(26, 34), 400, rng.uniform(40, 60))
        )
        self._fill(back, Tissue.MUSCLE)
        self._fill(body - 3, Tissue.MEDIASTINUM)
        self._fill(body, Tissue.SPINE)
        height = rng.uniform(17, 25)
        disc = np.abs(np.mod(self._i + rng.uniform(0, height), height) - height / 2)
        self._fill(np.maximum(body, disc - rng.uniform(2, 3.5)), Tissue.DISC)
        canal = np.sqrt((self._p - p - curve - radius - 8) ** 2 + (self._r - r) ** 2)
        self._fill(canal - 11, Tissue.SPINE)
        self._fill(canal - rng.uniform(5, 8), Tissue.CANAL)

    def _paint_chest_wall(self) -> None:
        """An oval in each axial slice, a little narrower above."""
        rng = self.rng
        _, i, r = self._middle
        gap = rng.uniform(1, 22)
        depth = rng.uniform(75, 105) + 0.1 * (self._i - i)
        width = rng.uniform(95, 135) + 0.15 * (self._i - i)
        center = self._front - gap + depth
        across = (self._r - r - rng.uniform(0, 30)) / width
        oval = np.sqrt(((self._p - center) / depth) ** 2 + across**2)
        inwards = (1 - oval) * depth + 2 * self._field(25.0)
        muscle, fat = rng.uniform(6, 14), rng.uniform(2, 25)
        pitch = rng.uniform(16, 24)
        slope = rng.uniform(0.2, 0.7)
        ribs = np.abs(np.mod(self._i + self._p * slope, pitch) - pitch / 2) - rng.uniform(2.5, 5)
        self._fill(inwards, Tissue.MUSCLE)
        self._fill(np.maximum(np.abs(inwards + muscle / 2) - muscle / 3, ribs), Tissue.RIB)
        self._fill(inwards + muscle, Tissue.SKIN_FAT)
        self._fill(inwards + muscle + fat, Tissue.OUTSIDE)
        self._paint_arms((center, r), width)

    def _paint_arms(
        self, middle: tuple[NDArray[np.float32], float], width: NDArray[np.float32]
    ) -> None:
        """Arms beside the chest, or nothing where they lie above the head."""
        rng = self.rng
        if rng.random() < 0.5:
            return
        center, r = middle
        radius = rng.uniform(28, 45)
        for side in (-1, 1):
            away = rng.uniform(5, 20)
            p = center + rng.uniform(-20, 40)
            across = self._r - r - side * (width + radius + away)
            arm = np.sqrt((self._p - p) ** 2 + across**2) - radius
            outside = self.tissues == Tissue.OUTSIDE
            for depth, tissue in ((0, Tissue.SKIN_FAT), (8, Tissue.MUSCLE), (22, Tissue.SPINE)):
                self.tissues[(arm < -depth) & outside] = tissue

    def _paint_heart(self, around: NDArray[np.float64]) -> None:
        rng = self.rng
        left, right = (self._distance(self.labels == value) for value in (_LV, _RV))
        # Of the nine hearts whose muscle was drawn: 6 mm and 2 to 4 mm as a rule, far more in some,
        # and in each of them half as thick in places.
        left_wall = rng.uniform(8, 13) if rng.random() < 0.2 else rng.uniform(5, 8)
        right_wall = rng.uniform(5, 11) if rng.random() < 0.3 else rng.uniform(1.5, 4)
        left_wall, right_wall = (
            wall * np.exp(0.28 * self._field(24.0)) for wall in (left_wall, right_wall)
        )
        muscle = left - left_wall
        if (self.labels == Tissue.LV_MUSCLE).any():
            # Labelled muscle ends where its label does.
            muscle = self._distance(self.labels == Tissue.LV_MUSCLE)
        ventricles = np.minimum(muscle, right - right_wall)
        shell = rng.uniform(0, 7) + rng.uniform(0, 4) * self._field(20.0)
        fluid = Tissue.EFFUSION if rng.random() < 0.15 else Tissue.HEART_FAT
        self._fill(np.where(shell > 0.5, ventricles - shell, 1), fluid)
        self._fill(around - rng.uniform(0.5, 2.5), Tissue.WALL)
        self._paint_vessels()
        self._fill(right - right_wall, Tissue.RV_MUSCLE)
        self._fill(muscle, Tissue.LV_MUSCLE)

    def _paint_vessels(self) -> None:
        """Vessels beyond the labels: branches, veins, and what goes on where a label ends."""
        rng = self.rng
        for side in (-1, 1):
            self._branches(_LA, 2, side, (4, 7), drift=(0.1, 0.0))
            self._branches(_PA, 2, side, (3, 6), drift=(0.2, 0.2))
        self._extend(_SVC, (0, -1, 0))
        self._continue(_SVC, (-0.3, -0.7, -0.8), (4, 7))
        self._extend(_IVC, (0, 1, 0))
        self._continue(_IVC, (-0.2, 0.6, 0.8), (4, 7))
        self._continue(_IVC, (-0.3, 0.6, -0.6), (3, 6))
        for lean in (0.4, 0.0, -0.5):
            self._continue(_AO, (rng.normal(0, 0.2), -1, lean), (3, 6))
        self._continue_descending_aorta()
        # The azygos vein and the inner thoracic arteries.
        p, i, r = self._middle
        for base in ((p + 42, r + 12), (self._front - 6, r - 14), (self._front - 6, r + 16)):
            if rng.random() < 0.5:
                at = base[0] + rng.normal(0, 4), base[1] + rng.normal(0, 5)
                ends = [(at[0], i - 80, at[1]), (at[0], i + 60, at[1])]
                self._tube(ends, [rng.uniform(1.2, 3)] * 2, Tissue.VESSEL)

    def _branches(
        self,
        value: int,
        count: int,
        side: int,
        radius_mm: tuple[float, float],
        *,
        drift: tuple[float, float],
    ) -> None:
        """Let vessels leave the side of a structure into the lung and thin out."""
        rng = self.rng
        places = self._places(value)
        if not len(places):
            return
        reach = places[:, 2] * side
        outer = places[reach >= np.percentile(reach, 93)]
        for _ in range(count + int(rng.integers(0, 2))):
            start = outer[rng.integers(len(outer))]
            direction = np.array(
                [rng.normal(drift[0], 0.35), rng.normal(drift[1], 0.45), side * 1.0]
            )
            width = rng.uniform(*radius_mm)
            self._grow(start, direction, width, rng.uniform(25, 60), thins=True)

    def _continue(self, value: int, direction: Point, radius_mm: tuple[float, float]) -> None:
        """Let a vessel go on where its label ends."""
        rng = self.rng
        places = self._places(value)
        if not len(places) or rng.random() < 0.2:
            return
        along = places @ np.array([0, direction[1], 0.2 * direction[2]])
        ends = places[along >= np.percentile(along, 96)]
        start = ends[rng.integers(len(ends))]
        heading = np.array(direction) + rng.normal(0, 0.15, 3)
        self._grow(start, heading, rng.uniform(*radius_mm), rng.uniform(20, 110), thins=False)

    def _continue_descending_aorta(self) -> None:
        places = self._places(_AO)
        behind = places[places[:, 0] > self._middle[0] + 15] if len(places) else places
        if len(behind) > 30:
            self._extend_from(behind, np.array([0.0, 1.0, 0.0]), length_mm=200)

    def _extend(self, value: int, direction: Point) -> None:
        """Let a vessel go on beyond its label, as wide and in the direction as it ends there.

        Nothing but its place then tells where the label ends, as in a real scan.
        """
        places = self._places(value)
        if len(places) > 30:
            self._extend_from(places, np.array(direction, float), self.rng.uniform(25, 130))

    def _extend_from(
        self, places: NDArray[np.float64], direction: NDArray[np.float64], length_mm: float
    ) -> None:
        rng = self.rng
        if rng.random() < 0.08:
            return
        along = places @ direction
        last = float(along.max())
        ends = places[along > last - _END_MM]
        before = places[(along <= last - _END_MM) & (along > last - 3 * _END_MM)]
        voxel_mm3 = float(np.prod(self._step_mm))
        radius = np.sqrt(len(ends) * voxel_mm3 / _END_MM / np.pi)
        heading = direction * 1.0
        if len(before) > 10:
            heading = ends.mean(axis=0) - before.mean(axis=0)
            # Not back towards the heart, whatever the last voxels look like.
            heading = heading / max(np.linalg.norm(heading), 1e-6) + 0.5 * direction
        heading = heading + rng.normal(0, 0.08, 3)
        start = ends.mean(axis=0)
        width = float(np.clip(radius * rng.uniform(0.9, 1.1), 2, 16))
        self._grow(start, heading, width, length_mm, thins=False)

    def _grow(
        self,
        start: NDArray[np.float64],
        direction: NDArray[np.float64],
        radius_mm: float,
        length_mm: float,
        *,
        thins: bool,
    ) -> None:
        direction = direction / np.linalg.norm(direction)
        middle = start + direction * length_mm / 2 + self.rng.normal(0, 0.08 * length_mm, 3)
        end = start + direction * length_mm
        shrink = (0.8, 0.45) if thins else (1.0, 0.9)
        stations: list[Point] = [(float(a), float(b), float(c)) for a, b, c in (start, middle, end)]
        self._tube(stations, [radius_mm, *(share * radius_mm for share in shrink)], Tissue.VESSEL)

    def _tube(self, stations: list[Point], radii_mm: list[float], tissue: Tissue) -> None:
        self._fill(tube(self.grid, stations, radii_mm).distance_mm, tissue)
