"""What drawn shapes say about the slices between them, alone and together with a prediction.

A shape is described by its signed distance: positive inside, in voxels of the grid. Interpolating
the distances of drawn slices is what "fill between slices" does. Here a prediction takes part: on
drawn slices its distances are corrected to what is drawn, and between them the correction is
interpolated. The result follows the drawn shapes where they are, and the predicted form between.
Drawn slices may have any orientation, and strokes count where they are.

References:
    Raya and Udupa (1990). Shape-based interpolation. https://doi.org/10.1109/42.52980
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.scans.volume import UNLABELLED

REACH = 20.0
"""Distances are cut here: further from a border they say nothing."""
FADE = 15.0
"""A correction fades to a third over so many voxels from the nearest drawn one."""
NEAR = 8.0
"""Voxels from a drawn one at which corrected shapes count a third in an answer."""
SOFTNESS = 1.5
"""Distance over which one label becomes another, where distances become probabilities."""
FAR = 1e6


@dataclass(frozen=True)
class _Lines:
    """Along each line of an axis: the drawn voxels before and after each voxel.

    Attributes:
        before: Index of the last drawn voxel up to this one; -1 without one.
        after: Index of the next drawn voxel; the length of the line without one.
    """

    before: NDArray[np.intp]
    after: NDArray[np.intp]

    @classmethod
    def along_first_axis(cls, known: NDArray[np.bool_]) -> "_Lines":
        side = len(known)
        index = np.arange(side)[:, np.newaxis, np.newaxis]
        before = np.maximum.accumulate(np.where(known, index, -1), axis=0)
        after = np.minimum.accumulate(np.where(known, index, side)[::-1], axis=0)[::-1]
        return cls(before, after)

    @property
    def gap(self) -> NDArray[np.float32]:
        """Distance to the nearest drawn voxel of the line; ``FAR`` without one."""
        side = len(self.before)
        index = np.arange(side)[:, np.newaxis, np.newaxis]
        behind = np.where(self.before >= 0, index - self.before, FAR)
        ahead = np.where(self.after < side, self.after - index, FAR)
        return np.minimum(behind, ahead).astype(np.float32)

    def interpolate(
        self, values: NDArray[np.float32], *, fades_between: bool
    ) -> NDArray[np.float32]:
        """Interpolate drawn values; beyond the last drawn voxel its value fades away.

        Args:
            values: The values; those of drawn voxels count.
            fades_between: Whether they also fade away between drawn voxels.
        """
        side = len(values)
        index = np.arange(side)[:, np.newaxis, np.newaxis]
        has_before, has_after = self.before >= 0, self.after < side
        first = np.take_along_axis(values, np.maximum(self.before, 0), axis=0)
        second = np.take_along_axis(values, np.minimum(self.after, side - 1), axis=0)
        span = np.maximum(self.after - self.before, 1)
        part = np.where(has_before & has_after, (index - self.before) / span, ~has_before)
        fading = np.exp(-self.gap / FADE)
        if not fades_between:
            fading = np.where(has_before & has_after, 1.0, fading)
        mixed = (1 - part) * first + part * second
        return np.asarray(fading * mixed * (has_before | has_after), np.float32)


def signed_distances(
    labels: NDArray[np.uint8], classes: Sequence[int], *, axis: int
) -> NDArray[np.float32]:
    """Measure how far each voxel lies inside or outside of each class, slice by slice.

    Args:
        labels: ``(P, I, R)`` labels.
        classes: Label values.
        axis: The slices are perpendicular to this axis.

    Returns:
        ``(K, P, I, R)`` distances in voxels, positive inside, between plus and minus ``REACH``.
    """
    steps = [FAR if a == axis else 1.0 for a in range(3)]
    found = np.empty((len(classes), *labels.shape), np.float32)
    for row, value in enumerate(classes):
        mask = labels == value
        if not mask.any() or mask.all():
            found[row] = REACH if mask.any() else -REACH
            continue
        # Further away than the reach every distance is cut, so only a box around is measured.
        box = tuple(
            slice(max(0, part.start - int(REACH)), part.stop + int(REACH))
            for part in ndimage.find_objects(mask.astype(np.uint8))[0]
        )
        inside = ndimage.distance_transform_edt(mask[box], sampling=steps)
        outside = ndimage.distance_transform_edt(~mask[box], sampling=steps)
        # Borders run between voxels: the first voxel inside is half a voxel deep.
        found[row] = -REACH
        signed = inside - outside
        found[row][box] = np.clip(signed - 0.5 * np.sign(signed), -REACH, REACH)
    return found


def correct_shapes(
    predicted: NDArray[np.uint8],
    drawn: NDArray[np.uint8],
    num_classes: int,
    *,
    absent: Collection[int] = (),
) -> NDArray[np.float32]:
    """Correct a prediction by what is drawn: there, and less and less away from it.

    Args:
        predicted: ``(P, I, R)`` labels.
        drawn: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
        num_classes: Classes, background included.
        absent: Label values that never occur.

    Returns:
        ``(P, I, R, num_classes)`` probabilities that sum to 1.
    """
    return _spread(predicted, drawn, num_classes, absent, trust=1.0)


def correct_answer(
    answer: NDArray[np.float32], drawn: NDArray[np.uint8], *, absent: Collection[int] = ()
) -> NDArray[np.float32]:
    """Let drawn shapes correct the probabilities of a network near the voxels that are drawn.

    Args:
        answer: ``(P, I, R, K)`` probabilities.
        drawn: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
        absent: Label values that never occur.

    Returns:
        Probabilities of the same shape.
    """
    predicted = np.asarray(answer.argmax(axis=-1), np.uint8)
    shapes = correct_shapes(predicted, drawn, answer.shape[-1], absent=absent)
    distances = ndimage.distance_transform_edt(drawn == UNLABELLED)
    near = np.exp(-distances / NEAR)[..., np.newaxis]
    return np.asarray((1 - near) * answer + near * shapes, np.float32)


def interpolate_shapes(
    predicted: NDArray[np.uint8],
    drawn: NDArray[np.uint8],
    num_classes: int,
    *,
    absent: Collection[int] = (),
) -> NDArray[np.float32]:
    """Interpolate drawn shapes between drawn slices, whatever is predicted there.

    Args:
        predicted: ``(P, I, R)`` labels: what stands in the other parts of slices that are drawn in
            part.
        drawn: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
        num_classes: Classes, background included.
        absent: Label values that never occur.

    Returns:
        ``(P, I, R, num_classes)`` probabilities that sum to 1.
    """
    return _spread(predicted, drawn, num_classes, absent, trust=0.0)


def _spread(
    predicted: NDArray[np.uint8],
    drawn: NDArray[np.uint8],
    num_classes: int,
    absent: Collection[int],
    *,
    trust: float,
) -> NDArray[np.float32]:
    """Spread what drawn distances add to ``trust`` times the predicted ones."""
    classes = [value for value in range(num_classes) if value not in absent]
    known = drawn != UNLABELLED
    both = np.where(known, drawn, predicted)
    total = np.zeros((len(classes), *drawn.shape), np.float32)
    weights = np.zeros(drawn.shape, np.float32)
    axes = _useful_axes(known)
    for axis in axes:
        before = signed_distances(predicted, classes, axis=axis)
        after = _distances_where_drawn(both, classes, known, axis)
        lines = _Lines.along_first_axis(np.moveaxis(known, axis, 0))
        gap = np.moveaxis(lines.gap, 0, axis)
        weight = 1 / (1 + gap) ** 2 if len(axes) > 1 else np.ones_like(gap)
        for row in range(len(classes)):
            own, wanted = (np.moveaxis(d[row], axis, 0) for d in (before, after))
            mixed = trust * own + lines.interpolate(wanted - trust * own, fades_between=trust > 0)
            total[row] += weight * np.moveaxis(mixed, 0, axis)
        weights += weight
    total /= weights
    return _to_probabilities(total, classes, num_classes)


def _distances_where_drawn(
    labels: NDArray[np.uint8], classes: Sequence[int], known: NDArray[np.bool_], axis: int
) -> NDArray[np.float32]:
    """Measure signed distances in the slices that hold something drawn; 0 in the others."""
    others = tuple(a for a in range(3) if a != axis)
    slices = np.flatnonzero(known.any(axis=others))
    found = np.zeros((len(classes), *labels.shape), np.float32)
    some = signed_distances(labels.take(slices, axis=axis), classes, axis=axis)
    np.moveaxis(found, axis + 1, 0)[slices] = np.moveaxis(some, axis + 1, 0)
    return found


def _useful_axes(known: NDArray[np.bool_]) -> list[int]:
    """Return the axes along which something lies between drawn voxels, one at least."""
    mixed = [
        int((known.any(axis=axis) & ~known.all(axis=axis)).sum()) / known.any(axis=axis).size
        for axis in range(3)
    ]
    return [axis for axis in range(3) if mixed[axis] > 0.3 * max(mixed)] or [2]


def _to_probabilities(
    distances: NDArray[np.float32], classes: Sequence[int], num_classes: int
) -> NDArray[np.float32]:
    powers = np.exp((distances - distances.max(axis=0)) / SOFTNESS)
    powers /= powers.sum(axis=0)
    probabilities = np.zeros((*distances.shape[1:], num_classes), np.float32)
    probabilities[..., list(classes)] = np.moveaxis(powers, 0, -1)
    return probabilities
