"""What a person drew of a heart: a label map of some slices or strokes, unknown elsewhere."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.labels import LabelTable
from heartseg.plurals import counted
from heartseg.scans.volume import UNLABELLED

EmptySlices = Literal["unknown", "background"]
LEAST_VOXELS = 10
"""Fewer drawn voxels of all structures together say nothing about a shape."""
MOST_DRAWN = 0.9
"""Where more of the box around all structures is drawn, nothing is left to refine ..."""
LEAST_SIDE = 0.2
"""... unless the box is thinner than this part of the scan: some slices side by side."""
LEAST_OVERLAP = 0.6
"""A drawn heart that overlaps less (Dice) with what a model finds may be of another patient: models
that had not seen pat4 and pat58 found 0.81 or more of both; slices of one laid on the other have
0.49."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A partial label map whose every voxel is known to be drawn or not.

    Attributes:
        labels: ``(X, Y, Z)`` uint8 labels; ``UNLABELLED`` where nothing is known.
        slices: Indices of the slices that are drawn in full, along each of the three axes.
        assumption: What was taken as drawn, in words.
    """

    labels: NDArray[np.uint8]
    slices: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    assumption: str

    @property
    def known(self) -> NDArray[np.bool_]:
        """``(X, Y, Z)``, True where something is drawn, background included."""
        return np.asarray(self.labels != UNLABELLED)


def understand_drawing(
    labels: NDArray[np.uint8],
    table: LabelTable,
    *,
    absent: tuple[str, ...] = (),
    empty_slices: EmptySlices = "unknown",
    source: str = "labels",
) -> Drawing:
    """Decide what of a partial label map is drawn, and check that it can be learned from.

    With ``UNLABELLED`` in it, every other voxel is drawn. Without, as 3D Slicer saves it, the drawn
    slices are the fewest, of any orientation, that hold all labelled voxels. Either way a slice on
    which nothing but background stands counts as unknown, unless ``empty_slices`` says otherwise.

    Args:
        labels: ``(X, Y, Z)`` labels, ``UNLABELLED`` where nothing is known.
        table: The structures.
        absent: Keys of structures that were declared absent.
        empty_slices: What a slice is on which nothing is drawn.
        source: What to call the label map in an error, usually its file.

    Raises:
        DataError: If nothing is drawn or everything, or a structure that was declared absent.
    """
    drawn = (labels != 0) & (labels != UNLABELLED)
    _check_structures(labels, drawn, table, absent, source)
    has_unknown = bool((labels == UNLABELLED).any())
    result = labels.copy()
    if has_unknown or empty_slices == "background":
        emptied = 0 if empty_slices == "background" else _forget_empty_slices(result)
        what = "every voxel that is not 255" if has_unknown else "every voxel"
    else:
        cover = _cover_with_slices(drawn)
        on_slice = _mark(labels.shape, cover)
        result[~on_slice] = UNLABELLED
        emptied = sum(labels.shape) - sum(map(len, cover))
        what = f"{_name_slices(cover)}, whole"
    slices = _find_whole_slices(result)
    if _is_complete(result):
        raise DataError(
            f"{source}: everything is drawn, so nothing is left to refine; mark what is unknown "
            f"with {UNLABELLED}, or leave --empty-slices at unknown. To learn from whole label "
            "maps use `heartseg train`"
        )
    assumed = "slices on which nothing is drawn are "
    assumed += "background" if empty_slices == "background" else "unknown"
    if not emptied and empty_slices == "unknown":
        assumed = "no slice is empty"
    return Drawing(result, slices, f"drawn: {what}; {assumed}")


def hardly_overlaps(drawing: Drawing, found: NDArray[np.uint8]) -> bool:
    """Return whether the drawn heart is not where a model sees one.

    Args:
        drawing: What is drawn.
        found: ``(X, Y, Z)`` labels of the model.
    """
    known = drawing.known
    drawn, seen = drawing.labels[known] > 0, found[known] > 0
    both = np.count_nonzero(drawn & seen)
    return bool(2 * both < LEAST_OVERLAP * (np.count_nonzero(drawn) + np.count_nonzero(seen)))


def _check_structures(
    labels: NDArray[np.uint8],
    drawn: NDArray[np.bool_],
    table: LabelTable,
    absent: tuple[str, ...],
    source: str,
) -> None:
    count = int(np.count_nonzero(drawn))
    if count == 0:
        raise DataError(
            f"{source}: nothing is drawn; expected some slices or strokes with the labels 1 to "
            f"{table.num_classes - 1}"
        )
    if count < LEAST_VOXELS:
        raise DataError(
            f"{source}: only {counted(count, 'voxel')} drawn; expected {LEAST_VOXELS} or more. "
            "Draw on whole slices: 3 or more show a shape"
        )
    counts = np.bincount(labels[drawn], minlength=table.num_classes)
    wrong = [s.key for s in table.foreground if s.key in absent and counts[s.value]]
    if wrong:
        raise DataError(
            f"{source}: drawn although declared absent: {', '.join(wrong)}. Leave that out of "
            "--absent and --diagnosis, or erase it"
        )


def _is_complete(labels: NDArray[np.uint8]) -> bool:
    drawn = (labels != 0) & (labels != UNLABELLED)
    box = tuple(slice(int(places.min()), int(places.max()) + 1) for places in np.nonzero(drawn))
    sides = [part.stop - part.start for part in box]
    is_thick = all(
        side > LEAST_SIDE * whole for side, whole in zip(sides, labels.shape, strict=True)
    )
    return is_thick and bool((labels[box] != UNLABELLED).mean() > MOST_DRAWN)


def _forget_empty_slices(labels: NDArray[np.uint8]) -> int:
    """Make slices that are background only unknown, in place; return how many there are."""
    occupied = labels != 0
    count = 0
    for axis in range(3):
        empty = ~occupied.any(axis=tuple(a for a in range(3) if a != axis))
        np.moveaxis(labels, axis, 0)[empty] = UNLABELLED
        count += int(empty.sum())
    return count


def _cover_with_slices(drawn: NDArray[np.bool_]) -> tuple[list[int], list[int], list[int]]:
    """Return few slices along each axis that together hold all drawn voxels.

    The slice with the most voxels that no slice holds yet is taken first.
    """
    left = drawn.copy()
    cover: tuple[list[int], list[int], list[int]] = ([], [], [])
    counts = [left.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    while left.any():
        axis = int(np.argmax([count.max() for count in counts]))
        index = int(counts[axis].argmax())
        plane = np.moveaxis(left, axis, 0)[index]
        for other in range(3):
            if other != axis:
                within = other if other < axis else other - 1
                counts[other] = counts[other] - plane.sum(axis=1 - within)
        counts[axis][index] = 0
        plane[...] = False
        cover[axis].append(index)
    return cover


def _mark(shape: tuple[int, ...], cover: tuple[list[int], ...]) -> NDArray[np.bool_]:
    marked = np.zeros(shape, bool)
    for axis, indices in enumerate(cover):
        np.moveaxis(marked, axis, 0)[indices] = True
    return marked


def _name_slices(cover: tuple[list[int], ...]) -> str:
    named = [
        f"{counted(len(found), 'slice')} along axis {axis}"
        for axis, found in enumerate(cover)
        if found
    ]
    return " and ".join(named)


def _find_whole_slices(
    labels: NDArray[np.uint8],
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    known = labels != UNLABELLED
    first, second, third = (
        tuple(
            int(index)
            for index in np.flatnonzero(known.all(axis=tuple(a for a in range(3) if a != axis)))
        )
        for axis in range(3)
    )
    return first, second, third


def hold_out(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Choose a part of the drawn voxels on which a refined answer is judged.

    Args:
        labels: ``(X, Y, Z)`` labels, ``UNLABELLED`` where nothing is known.

    Returns:
        ``(X, Y, Z)``, True where a voxel is held out: about every fourth drawn slice, one at
        least; of strokes, and where there are less than three slices, a part of each along the
        longest axis. Slices at both ends are kept, since what lies beyond them is hardest to tell.
    """
    known = labels != UNLABELLED
    held = np.zeros(labels.shape, bool)
    axis, indices = max(enumerate(_find_whole_slices(labels)), key=lambda found: len(found[1]))
    if len(indices) >= 3:
        inner = indices[1:-1]
        count = max(1, len(indices) // 4)
        chosen = [inner[int((i + 0.5) * len(inner) / count)] for i in range(count)]
        np.moveaxis(held, axis, 0)[chosen] = True
        # Of crossing slices the voxels that lie on a kept one too are no test.
        return held
    places = np.argwhere(known)
    longest = int(np.argmax(np.ptp(places, axis=0)))
    low, high = np.quantile(places[:, longest], [0.6, 0.85])
    block = (np.arange(labels.shape[longest]) >= low) & (np.arange(labels.shape[longest]) <= high)
    np.moveaxis(held, longest, 0)[block] = True
    return np.asarray(held & known)
