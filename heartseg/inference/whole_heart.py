"""A scan of any size and orientation to a label map, with a network that sees a heart at once.

The network was trained on boxes around hearts, stretched to one grid whatever their size in mm:
hearts of newborns and of adults look alike to it. So the box around the heart is found first, and
the network looks at it several times, each time through a slightly different window. The average
is the answer; how far the looks agree tells how much each structure is to be trusted.

Arrays here have the axes toward posterior, inferior and right ("PIR"), as the training data.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.data.hearts import from_trained_axes, to_trained_axes
from heartseg.data.resampling import normalize, resample, sampling_matrix
from heartseg.data.volume import Volume, spacing_of
from heartseg.errors import DataError, ModelError
from heartseg.inference.postprocess import keep_largest_components, pieces_kept
from heartseg.inference.predict import WHOLE_HEART_VIEW, ModelDescription
from heartseg.labels import LabelTable
from heartseg.progress import Report, silent

PredictVolume: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``(1, P, I, R, 1)`` images, blood near 1, to ``(1, P, I, R, K)`` logits."""
Triple: TypeAlias = tuple[float, float, float]
Box: TypeAlias = tuple[slice, slice, slice]

FINE_GRID = (80, 112, 96)
"""Where views are averaged: finer than what the network sees, coarser than most scans."""
WORKING_SIDE = 192
"""Longer axes are shrunk once before the views are cut: four times what the network sees."""
MOST_OBLIQUE_DEG = 20.0
"""Training turned hearts by less; a scan that is turned further is laid straight first."""
LEAST_VOXELS = 8
"""Fewer along an axis are slices, not a volume."""
HEART_SHARE = (0.83, 0.87, 0.92)
"""Median share of the box that the heart takes, along each axis, in the training data."""
SHRINKS_BELOW = 0.8
"""A box is cut only where the heart would fill much less of it than in training: 0.85 of the
median is the least that occurs there."""
SMALLEST_STEP = 0.6
"""No step cuts more: the first look at a large scan is a rough one."""
MOST_STEPS = 6
STARTS = (0.65, 0.45)
"""Shares of the volume's middle where the search begins anew if nothing sure was found."""
DOUBTFUL = 0.75
"""Below this agreement of the views a structure is doubtful: on real hearts it was 0.86 or more."""
SURE = 0.8
"""Mean agreement of all structures; below, the scan is unlike the training data: on real hearts it
was 0.89 or more, on hearts upside down, other contrasts and noise 0.77 or less."""
HOPELESS = 0.68
"""Mean agreement on noise and shuffled voxels was less."""
PLAUSIBLE_ML = (20.0, 2500.0)
"""All structures together: 48 to 1071 mL in 57 patients from newborn to adult, with room."""
_CHUNK_VOXELS = 1 << 21


@dataclass(frozen=True)
class View:
    """One look at a box: the window that the network sees.

    Attributes:
        zoom: Extent of the window along each axis, as a share of the box's.
        shift: Offset of its centre from that of the box, as a share of the box's extent.
    """

    zoom: Triple = (1.0, 1.0, 1.0)
    shift: Triple = (0.0, 0.0, 0.0)

    def within(self, outer: "View") -> "View":
        """Return this view of the box that another view shows, as a view of the other's box."""
        return View(
            _triple(z * o for z, o in zip(self.zoom, outer.zoom, strict=True)),
            _triple(s * z + t for s, z, t in zip(self.shift, outer.zoom, outer.shift, strict=True)),
        )


VIEWS = (
    View(),
    View((1.08, 1.08, 1.08), (0.01, 0.01, -0.01)),
    View((0.93, 0.93, 0.93), (-0.01, 0.01, 0.01)),
    View((1.0, 0.95, 1.06), (0.02, -0.02, 0.015)),
    View((1.05, 1.0, 0.95), (-0.02, 0.015, -0.02)),
)
"""The looks that are averaged."""


@dataclass(frozen=True)
class WholeHeart:
    """A segmented scan.

    Attributes:
        labels: ``(X, Y, Z)`` labels on the scan's own grid.
        quality: ``(num_classes - 1,)`` agreement of the views on each structure, the mean Dice of
            each view with the average; NaN where the average holds no such structure.
        notices: What was noticed of the scan, in words; empty if nothing was.
    """

    labels: NDArray[np.uint8]
    quality: NDArray[np.float64]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class WholeHeartSegmenter:
    """A network that sees a heart at once, and what its classes are.

    Attributes:
        predict: The network.
        grid: Voxels that it sees.
        table: The classes.
    """

    predict: PredictVolume
    grid: tuple[int, int, int]
    table: LabelTable

    @property
    def model(self) -> ModelDescription:
        """What the network is, as other segmenters tell it."""
        return ModelDescription(WHOLE_HEART_VIEW, self.table, self.grid)

    def segment_volume(self, image: Volume, *, report: Report = silent) -> NDArray[np.uint8]:
        """Return the ``(X, Y, Z)`` label map of a scan; see ``segment_whole_heart``."""
        return self.segment(image, report=report).labels

    def segment(self, image: Volume, *, report: Report = silent) -> WholeHeart:
        """Segment a scan; see ``segment_whole_heart``."""
        return segment_whole_heart(
            self.predict,
            image,
            grid=self.grid,
            num_classes=self.table.num_classes,
            keep_fraction=pieces_kept(self.table),
            report=report,
        )


def segment_whole_heart(
    predict: PredictVolume,
    image: Volume,
    *,
    grid: tuple[int, int, int],
    num_classes: int,
    keep_fraction: Mapping[int, float] | None = None,
    views: Sequence[View] = VIEWS,
    report: Report = silent,
) -> WholeHeart:
    """Segment a scan of a heart.

    Args:
        predict: The network.
        image: The scan, of any orientation, spacing and intensities.
        grid: Voxels that the network sees.
        num_classes: Classes, background included.
        keep_fraction: As in ``keep_largest_components``.
        views: The looks that are averaged.
        report: Told after each look.

    Raises:
        DataError: If the scan cannot be of a heart by MR.
        ModelError: If the network's answer has another shape than expected.
    """
    check_league(image)
    if obliqueness_deg(image.affine) > MOST_OBLIQUE_DEG:
        straight = lay_straight(image)
        result = segment_whole_heart(
            predict,
            straight,
            grid=grid,
            num_classes=num_classes,
            keep_fraction=keep_fraction,
            views=views,
            report=report,
        )
        labels = sample_nearest(result.labels, straight.affine, like=image)
        return WholeHeart(labels, result.quality, result.notices)

    turned = to_trained_axes(image.voxels, image.affine)
    box, probabilities, quality = _find_and_average(
        _Look(predict, turned, grid, num_classes), views, report
    )
    labels = np.zeros(turned.shape, np.uint8)
    write_labels(labels[box], probabilities)
    labels = keep_largest_components(labels, keep_fraction=keep_fraction)
    labels = from_trained_axes(labels, image.affine)
    return WholeHeart(labels, quality, tuple(find_notices(labels, quality, image.affine)))


def _find_and_average(
    look: "_Look", views: Sequence[View], report: Report
) -> tuple[Box, NDArray[np.float32], NDArray[np.float64]]:
    """Return the box around the heart with the averaged probabilities and their agreement.

    Raises:
        DataError: If there is no heart.
    """
    best = None
    for start in (1.0, *STARTS):
        box = find_box(look, start=View((start, start, start)), report=report)
        if box is None:
            continue
        probabilities, quality = average_views(look, box, views, report=report)
        if np.isnan(quality).all():
            continue
        if best is None or _mean(quality) > _mean(best[2]):
            best = box, probabilities, quality
        if _mean(quality) >= SURE:
            break
    if best is None or _mean(best[2]) < HOPELESS:
        found = "nothing like a heart" if best is None else f"agreement {_mean(best[2]):.2f}"
        raise DataError(
            f"found no heart ({found}): the packaged model knows MR of the heart with bright "
            "blood only"
        )
    return best


def find_notices(
    labels: NDArray[np.uint8], quality: NDArray[np.float64], affine: NDArray[np.float64]
) -> Iterator[str]:
    """Yield what makes a result doubtful, in words."""
    if _mean(quality) < SURE:
        yield (
            f"the looks at this scan agree only to {_mean(quality):.2f} (on hearts of the kind "
            "that the model knows: 0.89 or more); it may be another body part, contrast or "
            "orientation, so do not use the result unseen"
        )
    volume_ml = np.count_nonzero(labels) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    low, high = PLAUSIBLE_ML
    if not low <= volume_ml <= high:
        yield (
            f"all structures together have {volume_ml:.4g} mL, no volume of a heart; are the "
            "spacings in the header in millimetres?"
        )


def is_doubtful(quality: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which structures are not to be trusted: all of them where the whole is not.

    Args:
        quality: ``(structures,)`` agreement, NaN where absent.
    """
    return np.asarray((quality < DOUBTFUL) | (~np.isnan(quality) & (_mean(quality) < SURE)))


def check_league(image: Volume) -> None:
    """Check what can be told of a scan without the network.

    Raises:
        DataError: If it is a few slices only, empty, or by CT.
    """
    voxels = image.voxels
    if min(voxels.shape) < LEAST_VOXELS:
        raise DataError(
            f"expected a volume, found {min(voxels.shape)} slices ({voxels.shape}): the packaged "
            "model needs the whole heart; train a model of slices for single ones"
        )
    sample = voxels[::2, ::2, ::2]
    if sample.max() <= sample.min():
        raise DataError("every voxel has the same intensity: there is nothing to segment")
    # Hounsfield units: air near -1000, tissue between -200 and 300, nothing like it in MR.
    tissue = ((sample > -200) & (sample < 300)).mean()
    if sample.min() > -5000 and (sample < -500).mean() > 0.01 and tissue > 0.05:
        raise DataError(
            f"looks like CT (intensities from {sample.min():.0f} to {sample.max():.0f}, "
            f"{(sample < -500).mean():.0%} below -500 as air in Hounsfield units); the packaged "
            "model knows MR with bright blood only"
        )


def obliqueness_deg(affine: NDArray[np.float64]) -> float:
    """Return the largest angle between an array axis and the patient's axis next to it."""
    directions = affine[:3, :3] / spacing_of(affine)
    axes = io_orientation(affine)[:, 0].astype(int)
    cosines = [abs(directions[axis, column]) for column, axis in enumerate(axes)]
    return float(np.rad2deg(np.arccos(min(1.0, min(cosines)))))


def lay_straight(image: Volume) -> Volume:
    """Resample an oblique scan along the patient's axes; its border goes on where it ends."""
    shape = np.array(image.voxels.shape)
    corners = np.array(np.meshgrid(*((-0.5, side - 0.5) for side in shape), indexing="ij"))
    world = image.affine[:3, :3] @ corners.reshape(3, 8) + image.affine[:3, 3:]
    low, high = world.min(axis=1), world.max(axis=1)
    # Isotropic, fine enough for the thinnest voxels, but no finer than the views can use.
    step = max(float(image.spacing_mm.min()), float((high - low).max()) / WORKING_SIDE)
    size = np.maximum(np.ceil((high - low) / step).astype(int), 1)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low + step / 2
    to_voxels = np.linalg.inv(image.affine) @ affine
    voxels = ndimage.affine_transform(
        image.voxels.astype(np.float32, copy=False),
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        output_shape=tuple(size),
        order=1,
        mode="nearest",
    )
    return Volume(voxels, affine, image.header)


def sample_nearest(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], *, like: Volume
) -> NDArray[np.uint8]:
    """Bring labels onto another grid, each voxel with the label at its centre."""
    to_voxels = np.linalg.inv(affine) @ like.affine
    return np.asarray(
        ndimage.affine_transform(
            labels,
            to_voxels[:3, :3],
            to_voxels[:3, 3],
            output_shape=like.voxels.shape,
            order=0,
            mode="constant",
            cval=0,
        ),
        np.uint8,
    )


class _Look:
    """The network and the volume that it looks at."""

    def __init__(
        self,
        predict: PredictVolume,
        voxels: NDArray[np.floating],
        grid: tuple[int, int, int],
        num_classes: int,
    ) -> None:
        self._predict, self.grid, self.num_classes = predict, grid, num_classes
        self.shape: tuple[int, int, int] = voxels.shape
        matrices = [sampling_matrix(min(side, WORKING_SIDE), side) for side in self.shape]
        shrinks = max(self.shape) > WORKING_SIDE
        self._voxels = resample(voxels, matrices) if shrinks else voxels.astype(np.float32)
        # MR has no negative intensities: where there are some, 0 means something else.
        self._floor = float(np.percentile(self._voxels[::2, ::2, ::2], 1))
        self._floor = self._floor if self._floor < -1e-2 * self._voxels.max() else 0.0

    def probabilities(self, view: View) -> NDArray[np.float32]:
        """Return the ``(*grid, K)`` probabilities of what a view of the volume shows."""
        seen = resample(
            self._voxels,
            [
                sampling_matrix(wanted, side, zoom=zoom, shift=shift)
                for wanted, side, zoom, shift in zip(
                    self.grid, self._voxels.shape, view.zoom, view.shift, strict=True
                )
            ],
        )
        logits = self._predict(normalize(seen - self._floor)[np.newaxis, ..., np.newaxis])
        expected = (1, *self.grid, self.num_classes)
        if logits.shape != expected:
            raise ModelError(
                f"expected logits of shape {expected} from the model, got {logits.shape}"
            )
        return softmax(logits[0])


def find_box(look: "_Look", *, start: View | None = None, report: Report = silent) -> Box | None:
    """Find the box around the heart: look, cut around what is found, look again.

    Args:
        look: The scan.
        start: Where to look first; None: the whole volume.
        report: Told after each look.

    Returns:
        The box in voxels, the whole volume where the heart fills it as in training; None where
        nothing is found.
    """
    view = start or View()
    for step in range(MOST_STEPS):
        found = look.probabilities(view)[..., 0] < 0.5
        report(step, MOST_STEPS, "looking for the heart")
        if not found.any():
            return None
        around = _view_around(found)
        if around == View():
            break
        view = _inside(around.within(view))
    return _to_box(view, look.shape)


def _view_around(found: NDArray[np.bool_]) -> View:
    """Return the view in which a heart has the place that it has in training."""
    # The largest piece: what else is taken for blood far away must not widen the box.
    pieces, count = ndimage.label(found)
    if count > 1:
        found = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    zooms, shifts = [], []
    for axis, share in enumerate(HEART_SHARE):
        places = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = places[0] / found.shape[axis], (places[-1] + 1) / found.shape[axis]
        zoom = max((high - low) / share, SMALLEST_STEP)
        # Where the heart fills the box as in training, nothing is cut.
        keeps = zoom >= SHRINKS_BELOW
        zooms.append(1.0 if keeps else zoom)
        shifts.append(0.0 if keeps else (low + high) / 2 - 0.5)
    return View(_triple(zooms), _triple(shifts))


def _inside(view: View) -> View:
    """Move a view so that it does not leave the volume."""
    zoom = _triple(min(z, 1.0) for z in view.zoom)
    return View(
        zoom,
        _triple(
            float(np.clip(s, (z - 1) / 2, (1 - z) / 2))
            for z, s in zip(zoom, view.shift, strict=True)
        ),
    )


def _to_box(view: View, shape: tuple[int, int, int]) -> Box:
    first, second, third = (
        slice(
            max(0, round((0.5 + shift - zoom / 2) * side)),
            min(side, max(1, round((0.5 + shift + zoom / 2) * side))),
        )
        for side, zoom, shift in zip(shape, view.zoom, view.shift, strict=True)
    )
    return first, second, third


def _to_view(box: Box, shape: tuple[int, int, int]) -> View:
    sides = list(zip(box, shape, strict=True))
    return View(
        _triple((b.stop - b.start) / side for b, side in sides),
        _triple((b.start + b.stop) / 2 / side - 0.5 for b, side in sides),
    )


def average_views(
    look: _Look, box: Box, views: Sequence[View] = VIEWS, *, report: Report = silent
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Average the probabilities of several views of a box, and tell how far the views agree.

    Returns:
        ``(*FINE_GRID, K)`` probabilities over the box, and the agreement as in ``WholeHeart``.
    """
    whole = _to_view(box, look.shape)
    total = np.zeros((*FINE_GRID, look.num_classes), np.float32)
    weight = np.zeros(FINE_GRID, np.float32)
    seen = []
    for index, view in enumerate(views):
        probabilities = resample(
            look.probabilities(view.within(whole)),
            [
                sampling_matrix(fine, side, zoom=1 / zoom, shift=-shift / zoom)
                for fine, side, zoom, shift in zip(
                    FINE_GRID, look.grid, view.zoom, view.shift, strict=True
                )
            ],
        )
        # A view says nothing about what lies outside its window.
        rows, columns, layers = (
            np.abs((np.arange(fine) + 0.5) / fine - 0.5 - shift) <= zoom / 2
            for fine, zoom, shift in zip(FINE_GRID, view.zoom, view.shift, strict=True)
        )
        inside = rows[:, np.newaxis, np.newaxis] & columns[:, np.newaxis] & layers
        total += probabilities * inside[..., np.newaxis]
        weight += inside
        seen.append((probabilities.argmax(axis=-1).astype(np.uint8), inside))
        report(index + 1, len(views), f"view {index + 1} of {len(views)}")
    total /= np.maximum(weight, 1)[..., np.newaxis]
    return total, measure_agreement(total.argmax(axis=-1), seen, look.num_classes)


def measure_agreement(
    average: NDArray[np.integer],
    seen: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    num_classes: int,
) -> NDArray[np.float64]:
    """Return the mean Dice of each view's labels with the average's, within the view.

    Args:
        average: ``(P, I, R)`` labels.
        seen: Of each view its labels and where it looked.
        num_classes: Number of classes, background included.

    Returns:
        ``(num_classes - 1,)``; NaN where the average holds no such structure.
    """
    scores = np.full((len(seen), num_classes - 1), np.nan)
    for row, (labels, inside) in enumerate(seen):
        pairs = average[inside].astype(np.int64) * num_classes + labels[inside]
        confusion = np.bincount(pairs, minlength=num_classes**2)
        confusion = confusion.reshape(num_classes, num_classes)
        total = (confusion.sum(axis=0) + confusion.sum(axis=1))[1:]
        np.divide(2.0 * np.diagonal(confusion)[1:], total, out=scores[row], where=total > 0)
    present = np.isin(np.arange(1, num_classes), np.unique(average))
    quality = np.full(num_classes - 1, np.nan)
    quality[present] = np.nanmean(scores[:, present], axis=0)
    return quality


def write_labels(labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    """Bring probabilities to a finer grid and write the likeliest class of each voxel.

    Some layers at a time: all classes at full resolution would be far larger than the scan.

    Args:
        labels: ``(P, I, R)``, written in place.
        probabilities: ``(p, i, r, K)`` over the same box.
    """
    rows, *others = (
        sampling_matrix(wanted, side)
        for wanted, side in zip(labels.shape, probabilities.shape[:3], strict=True)
    )
    depth = max(1, _CHUNK_VOXELS // max(1, labels[0].size))
    for start in range(0, len(labels), depth):
        part = resample(probabilities, [rows[start : start + depth], *others])
        labels[start : start + depth] = part.argmax(axis=-1)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn logits into probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def _triple(values: Any) -> Triple:  # noqa: ANN401 - any iterable of three numbers
    first, second, third = (float(value) for value in values)
    return first, second, third


def _mean(quality: NDArray[np.float64]) -> float:
    return float(np.nanmean(quality))
