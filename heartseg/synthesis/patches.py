"""Samples for the second stage: patches of a heart, drawn finely, with what the first stage finds.

The answers of the first stage are honest as far as possible: it is shown every heart bent and
rendered anew, and what it finds is made worse in ways in which it fails on real scans, because it
has seen the label maps in training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from heartseg.scans.intensity import blood_level, normalize, rough_level
from heartseg.scans.nearest import resize_labels
from heartseg.scans.resampling import resample, resample_to, sampling_matrix
from heartseg.synthesis.rendering import Scan, cut_box, draw_volume
from heartseg.synthesis.scene import Scene

Shape = tuple[int, int, int]
FloatArray = NDArray[np.float32]
FirstStage: TypeAlias = Callable[[FloatArray], FloatArray]
"""``(1, *grid, 1)`` images, blood near 1, to ``(1, *grid, K)`` logits."""

PER_VOLUME = 6
"""Patches of one drawn heart: drawing it takes longer than a step of training."""
LEVEL_JITTER = 0.06
"""Standard deviation of the logarithm of the level of blood: it is found less exactly in use."""


@dataclass(frozen=True)
class Patches:
    """What the second stage trains on.

    Attributes:
        seen: ``(N, *patch, 1 + K)`` float32 image and probabilities of the first stage.
        labels: ``(N, *patch)`` uint8 labels; other values where nothing is known.
    """

    seen: FloatArray
    labels: NDArray[np.uint8]

    @classmethod
    def join(cls, parts: "Sequence[Patches]", order: NDArray[np.integer]) -> "Patches":
        """Return the patches of several, in an order."""
        seen = np.concatenate([part.seen for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        return cls(seen[order], labels[order])


@dataclass(frozen=True)
class PatchMaker:
    """Makes patches of scenes and scans.

    Attributes:
        first: The first stage.
        first_grid: Voxels that it sees.
        grid: Voxels over the box around the heart.
        patch: Voxels of a patch.
        num_classes: Classes, background included.
    """

    first: FirstStage
    first_grid: Shape
    grid: Shape
    patch: Shape
    num_classes: int

    def draw(
        self,
        draw_source: Callable[[np.random.Generator], Scene | Scan],
        count: int,
        rng: np.random.Generator,
        *,
        mirror_share: float = 0.0,
    ) -> Patches:
        """Draw patches of hearts, a few of each, in random order.

        Args:
            draw_source: Draws what is shown: scenes, and scans as fine as ``grid``.
            count: Number of patches.
            rng: Decides everything that is random.
            mirror_share: How probable it is that left and right are exchanged.
        """
        parts = []
        for _ in range(-(-count // PER_VOLUME)):
            image, labels, _ = draw_volume(
                draw_source(rng),
                self.grid,
                num_classes=self.num_classes,
                rng=rng,
                mirror_share=mirror_share,
                # The second stage sees the box around the heart, which the first has found.
                wide_share=0.0,
            )
            image = self._normalize(image, labels, float(np.exp(rng.normal(0, LEVEL_JITTER))))
            found = disturb(self._ask_first(image), rng)
            parts.append(self._cut(image, labels, found, PER_VOLUME, rng))
        total = sum(len(part.labels) for part in parts)
        return Patches.join(parts, rng.permutation(total)[:count])

    def frame(self, scan: Scan, rng: np.random.Generator) -> Patches:
        """Show some patches of a scan as it is, with what the first stage finds: for validation."""
        boxed, known = cut_box(scan, num_classes=self.num_classes)
        labels = resize_labels(known, self.grid)
        image = self._normalize(resample_to(boxed, self.grid), labels, 1.0)
        found = np.asarray(softmax(self._ask_first(image), axis=-1), np.float32)
        return self._cut(image, labels, found, PER_VOLUME, rng)

    def _normalize(self, image: FloatArray, labels: NDArray[np.uint8], jitter: float) -> FloatArray:
        coarse = image[::2, ::2, ::2]
        heart = self._is_structure(labels[::2, ::2, ::2])
        level = blood_level(coarse, heart) or rough_level(coarse)
        return normalize(image, jitter * level)

    def _is_structure(self, labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.asarray((labels > 0) & (labels < self.num_classes))

    def _ask_first(self, image: FloatArray) -> FloatArray:
        small = resample_to(image, self.first_grid)
        return np.asarray(self.first(small[np.newaxis, ..., np.newaxis])[0], np.float32)

    def _cut(
        self,
        image: FloatArray,
        labels: NDArray[np.uint8],
        probabilities: FloatArray,
        count: int,
        rng: np.random.Generator,
    ) -> Patches:
        """Cut patches around voxels of every class alike, so that thin vessels are seen often."""
        matrices = [
            sampling_matrix(fine, side)
            for fine, side in zip(self.grid, probabilities.shape, strict=False)
        ]
        flat = labels.ravel()
        places = [np.flatnonzero(flat == value) for value in range(self.num_classes)]
        places = [found for found in places if found.size] or [np.arange(flat.size)]
        most = np.subtract(self.grid, self.patch)
        seen, truth = [], []
        for _ in range(count):
            found = places[int(rng.integers(len(places)))]
            middle = np.unravel_index(found[int(rng.integers(found.size))], self.grid)
            # Not always in the middle of the patch.
            away = [int(rng.integers(-side // 4, side // 4 + 1)) for side in self.patch]
            start = np.clip(np.array(middle) - np.array(self.patch) // 2 + away, 0, most)
            first, second, third = (
                slice(int(low), int(low) + side)
                for low, side in zip(start, self.patch, strict=True)
            )
            box = first, second, third
            given = resample(
                probabilities, [m[part] for m, part in zip(matrices, box, strict=True)]
            )
            seen.append(np.concatenate([image[box][..., np.newaxis], given], axis=-1))
            truth.append(labels[box])
        return Patches(np.stack(seen), np.stack(truth))


def disturb(logits: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the probabilities of an answer that is worse than the one given.

    In half of the calls classes gain or lose smoothly over the volume; in half of them a part of a
    structure or two is missed, or taken for another one.

    Args:
        logits: ``(P, I, R, K)``, the answer of the first stage.
        rng: Decides everything that is random.

    Returns:
        ``(P, I, R, K)`` probabilities.
    """
    *sides, num_classes = logits.shape
    if rng.random() < 0.5:
        knots = [int(rng.integers(4, 10)) for _ in sides]
        field = rng.standard_normal((*knots, num_classes), np.float32)
        field *= np.float32(rng.uniform(0.3, 1.6))
        matrices = [sampling_matrix(side, count) for side, count in zip(sides, knots, strict=True)]
        logits = logits + resample(field, matrices)
    probabilities = np.asarray(softmax(logits, axis=-1), np.float32)
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(1, 3))):
            _miss_part(probabilities, rng)
    return probabilities


def _miss_part(probabilities: FloatArray, rng: np.random.Generator) -> None:
    """Move a ball of a structure to the background or to another class, in place."""
    *sides, num_classes = probabilities.shape
    labels = probabilities.argmax(axis=-1)
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=num_classes)[1:]) + 1
    if not present.size:
        return
    missed = int(rng.choice(present))
    places = np.argwhere(labels == missed)
    center = places[int(rng.integers(len(places)))]
    radius = rng.uniform(0.06, 0.18) * min(sides)
    axes = np.meshgrid(*(np.arange(side) for side in sides), indexing="ij", sparse=True)
    squares = [(axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True)]
    inside = squares[0] + squares[1] + squares[2] < radius**2
    lost = probabilities[..., missed] * inside * np.float32(rng.uniform(0.6, 1))
    other = 0 if rng.random() < 0.8 else int(rng.integers(1, num_classes))
    probabilities[..., missed] -= lost
    probabilities[..., other] += lost
