"""Samples for the whole-heart network: a scene or a scan, bent, rendered and measured anew.

A scene gets a contrast, a coil, a resolution and noise that no two samples share, so that the
network learns shapes and their order, not the grey levels of one scanner. A real scan is bent the
same way and its contrast changed a little.

References:
    Billot et al. (2023). SynthSeg. https://doi.org/10.1016/j.media.2023.102789
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.scans.intensity import blood_level, normalize, rough_level
from heartseg.scans.resampling import resample_to
from heartseg.synthesis.scanner import measure, render, smooth_field, vary
from heartseg.synthesis.scene import SCENE_GRID, Scene

Shape = tuple[int, int, int]
FloatArray = NDArray[np.float32]

HEART_FRACTION = (0.83, 0.87, 0.92)
"""Median fraction of the box that the heart takes, along each axis, in HVSMR-2.0."""
WIDE_SHARE = 0.3
"""How probable it is that a sample shows far more than the heart, where its source does."""
_FAR_MORE = 2.0
"""A scan that is so much larger than the usual box around its heart shows far more than that."""


@dataclass(frozen=True)
class Scan:
    """A real scan of a heart with its labels; see ``lay_scan`` for the size of its voxels.

    Attributes:
        image: ``(P, I, R)`` float32 intensities.
        labels: ``(P, I, R)`` uint8 labels; other values where nothing is known.
    """

    image: FloatArray
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """What the network trains on.

    Attributes:
        image: ``(*grid, 1)`` float32, blood near 1.
        shares: ``(*grid, K)`` float32, the share of each voxel that each class takes; sums to 1,
            and to 0 where nothing is known.
    """

    image: FloatArray
    shares: FloatArray


@dataclass(frozen=True)
class Window:
    """The part of a source that a sample shows.

    Attributes:
        center: Its centre, in voxels of the source.
        extent: Its extent, in voxels of the source.
        box: Extent of the usual box around the heart, in voxels of the source.
    """

    center: FloatArray
    extent: FloatArray
    box: FloatArray

    def within(self, shape: tuple[int, ...]) -> "Window":
        """Return the window moved, and cut where it is too large, to lie within a source."""
        sides = np.array(shape, np.float32)
        extent = np.minimum(self.extent, sides)
        # The first voxel ends half a voxel before its middle.
        center = np.clip(self.center, extent / 2 - 0.5, sides - extent / 2 - 0.5)
        return Window(center, extent, self.box)


def make_sample(
    source: Scene | Scan,
    grid: Shape,
    *,
    num_classes: int,
    rng: np.random.Generator,
    mirror_share: float = 0.0,
) -> Sample:
    """Bend a scene or a scan, give it a look, and bring it onto the network's grid.

    Args:
        source: What to show.
        grid: Voxels of the sample.
        num_classes: Classes, background included.
        rng: Decides everything that is random.
        mirror_share: How probable it is that left and right are exchanged.
    """
    image, labels, wide = draw_volume(
        source, SCENE_GRID, num_classes=num_classes, rng=rng, mirror_share=mirror_share
    )
    # The heart, and so the level of its blood, is found less exactly in a wide view.
    jitter = float(np.exp(rng.normal(0, 0.2 if wide else 0.07)))
    return _to_sample(image, labels, grid, num_classes, jitter)


def draw_volume(
    source: Scene | Scan,
    shape: Shape,
    *,
    num_classes: int,
    rng: np.random.Generator,
    mirror_share: float = 0.0,
    wide_share: float = WIDE_SHARE,
) -> tuple[FloatArray, NDArray[np.uint8], bool]:
    """Draw a window of a scene or a scan, bent, rendered and measured.

    Args:
        source: What to show.
        shape: Voxels of what is drawn.
        num_classes: Classes, background included.
        rng: Decides everything that is random.
        mirror_share: How probable it is that left and right are exchanged.
        wide_share: How probable it is that far more than the heart is shown, where the source
            shows it.

    Returns:
        Image and labels, both of ``shape``, and whether the window shows far more than the heart.
    """
    voxels = source.tissues if isinstance(source, Scene) else source.labels
    heart = find_heart(source.labels, num_classes)
    wide = _shows_far_more(source, heart) and bool(rng.random() < wide_share)
    window = _draw_window(heart, rng, wide=wide)
    if wide and isinstance(source, Scan):
        window = window.within(voxels.shape)
    places = _draw_places(shape, window, rng, mirror_share)
    voxels = voxels.ravel()[_nearest_voxels(places, voxels.shape)]
    if isinstance(source, Scan):
        labels = voxels
        bent = ndimage.map_coordinates(source.image, places, order=1, mode="nearest")
        seen = vary(bent, rng)
    else:
        labels = source.label_of[voxels]
        seen = render(voxels, rng)
    seen = measure(seen, rng, strength=0.4 if isinstance(source, Scan) else 1.0)
    seen, labels = _cut_off(seen, labels, rng, often=wide)
    return seen, labels, wide


def frame_scan(scan: Scan, grid: Shape, *, num_classes: int) -> Sample:
    """Show the usual box around the heart of a scan on the network's grid: for validation."""
    image, labels = cut_box(scan, num_classes=num_classes)
    return _to_sample(image, labels, grid, num_classes, 1.0)


def cut_box(
    scan: Scan, *, num_classes: int, room: float = 0.0
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Return image and labels of the usual box around the heart, as far as the scan shows it.

    Args:
        scan: The scan.
        num_classes: Classes, background included.
        room: What is kept beyond the box on each side, as a fraction of its extent.
    """
    low, high = find_heart(scan.labels, num_classes)
    reach = (0.5 + room) * (high - low) / HEART_FRACTION
    center = (low + high + 1) / 2
    first = np.maximum(np.rint(center - reach), 0).astype(int)
    last = np.minimum(np.rint(center + reach), scan.labels.shape).astype(int)
    box = tuple(slice(int(start), int(stop)) for start, stop in zip(first, last, strict=True))
    return scan.image[box], scan.labels[box]


def _shows_far_more(source: Scene | Scan, heart: tuple[FloatArray, FloatArray]) -> bool:
    """Return whether a source shows far more than its heart: every scene, and some scans."""
    if isinstance(source, Scene):
        return True
    low, high = heart
    return bool(np.prod(source.labels.shape * np.array(HEART_FRACTION) / (high - low)) > _FAR_MORE)


def _to_sample(
    image: FloatArray, labels: NDArray[np.uint8], grid: Shape, num_classes: int, jitter: float
) -> Sample:
    shares = np.stack([resample_to(labels == label, grid) for label in range(num_classes)], axis=-1)
    small = resample_to(image, grid)
    level = blood_level(small, shares[..., 1:].sum(axis=-1) > 0.5) or rough_level(small)
    return Sample(normalize(small, jitter * level)[..., np.newaxis], shares)


def find_heart(labels: NDArray[np.uint8], num_classes: int) -> tuple[FloatArray, FloatArray]:
    """Return the first and the last corner of all structures, in voxels.

    A slice of which nothing is known may show the heart, so it counts: where few slices are
    labelled, the heart is not as narrow as they are.

    Args:
        labels: ``(P, I, R)`` labels, other values where nothing is known; without a structure, all
            of it is taken.
        num_classes: Classes, background included.
    """
    # 0 - 1 wraps around: one comparison finds every structure.
    heart = np.asarray(labels - np.uint8(1) < np.uint8(num_classes - 1))
    if not heart.any():
        heart = np.ones_like(heart)
    unknown = labels >= num_classes
    others = ((1, 2), (0, 2), (0, 1))
    found = [
        np.flatnonzero(np.any(heart, axis=axes) | np.all(unknown, axis=axes)) for axes in others
    ]
    low, high = (np.array([part[end] for part in found], np.float32) for end in (0, -1))
    return low - np.float32(0.5), high + np.float32(0.5)


def _draw_window(
    heart: tuple[FloatArray, FloatArray], rng: np.random.Generator, *, wide: bool
) -> Window:
    """Draw which part of a source is seen: the box around the heart, or far more."""
    low, high = heart
    heart_extent = np.subtract(high, low)
    box = heart_extent / HEART_FRACTION
    spread = rng.normal(0, 0.07, 3) + rng.normal(0, 0.05)
    if wide:
        spread = np.log(rng.uniform(1.0, 2.3)) + rng.normal(0, 0.15, 3)
    extent = box * np.exp(np.clip(spread, -0.25, 0.9))
    # As a fraction of the box in a close view; anywhere in a wide one.
    shift = rng.normal(0, 0.025, 3) * box
    if wide:
        shift += rng.uniform(-0.5, 0.5, 3) * np.maximum(extent - heart_extent, 0)
    center = (np.add(low, high)) / 2 + shift
    return Window(*(np.asarray(part, np.float32) for part in (center, extent, box)))


def _draw_places(
    shape: Shape, window: Window, rng: np.random.Generator, mirror_share: float
) -> list[FloatArray]:
    """Draw where each voxel of the sample lies in the source, in its voxels."""
    center = [np.linspace(-0.5, 0.5, side, dtype=np.float32) for side in shape]
    straight = np.meshgrid(*center, indexing="ij", sparse=True)
    # In units of the box, so that a wide view is bent and turned as the box is.
    placed = [
        part * (extent / box)
        for part, extent, box in zip(straight, window.extent, window.box, strict=True)
    ]
    angles = np.deg2rad(np.clip(rng.normal(0, 9, 3), -20, 20))
    matrix = _rotation(angles)
    if rng.random() < mirror_share:
        matrix[:, 2] *= -1
    rough, fine = rng.uniform(0, 0.035), rng.uniform(0, 0.012)
    places = []
    for axis in range(3):
        place = sum(np.float32(matrix[axis, other]) * placed[other] for other in range(3))
        bend = smooth_field(rng, shape, (5, 5, 5), rough) + smooth_field(
            rng, shape, (10, 12, 10), fine
        )
        places.append(np.asarray((place + bend) * window.box[axis] + window.center[axis]))
    return places


def _nearest_voxels(places: Sequence[FloatArray], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the number of the voxel nearest to each place, or of the border's beyond it."""
    # float32 counts exactly up to 2 ** 24.
    number = np.zeros_like(places[0])
    for place, side in zip(places, shape, strict=True):
        number *= side
        number += np.clip(np.rint(place), 0, side - 1)
    return number.astype(np.intp)


def _cut_off(
    seen: FloatArray, labels: NDArray[np.uint8], rng: np.random.Generator, *, often: bool
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """End the scan before its window ends on some sides: nothing, noise or its border beyond."""
    ends = []
    for side in seen.shape:
        cuts = rng.random(2) < (0.2 if often else 0.08)
        # Mostly through what lies around the heart, sometimes through the heart itself.
        depth = np.where(rng.random(2) < 0.7, rng.uniform(0, 0.1, 2), rng.uniform(0, 0.22, 2))
        low, high = (round(float(c * d) * side) for c, d in zip(cuts, depth, strict=True))
        ends.append((low, side - high))
    if all(end == (0, side) for end, side in zip(ends, seen.shape, strict=True)):
        return seen, labels
    inner = tuple(slice(*end) for end in ends)
    around = [(low, side - high) for (low, high), side in zip(ends, seen.shape, strict=True)]
    draw = rng.random()
    if draw < 0.4:
        beyond = np.pad(seen[inner], around, mode="edge")
    else:
        beyond = np.pad(seen[inner], around)
        if draw < 0.7:
            noise = np.float32(rng.uniform(0, 0.08)) * rng.standard_normal(seen.shape, np.float32)
            outside = np.ones(seen.shape, bool)
            outside[inner] = False
            beyond[outside] = np.abs(noise[outside])
    return np.asarray(beyond, np.float32), np.pad(labels[inner], around)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix
