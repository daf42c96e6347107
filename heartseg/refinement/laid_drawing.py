"""Drawn labels on the grid on which views are averaged, and answers that are scored on them."""

import numpy as np
from numpy.typing import NDArray

from heartseg.inference.views import FINE_GRID, View
from heartseg.scans.resampling import resample, sampling_matrix
from heartseg.scans.volume import UNLABELLED


def lay_drawn(labels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Bring drawn labels onto the grid of the answers.

    Args:
        labels: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
        view: The box that the grid covers, as a view of ``labels``.

    Returns:
        ``FINE_GRID`` labels: of the drawn voxels within a voxel of the grid the one nearest to its
        centre; so a drawn slice is never lost between two planes.
    """
    for axis, (count, zoom, shift) in enumerate(zip(FINE_GRID, view.zoom, view.shift, strict=True)):
        side = labels.shape[axis]
        place = (0.5 + ((np.arange(count) + 0.5) / count - 0.5) * zoom + shift) * side - 0.5
        reach = max(0.5, zoom * side / count / 2)
        laid = np.full(
            (*labels.shape[:axis], count, *labels.shape[axis + 1 :]), UNLABELLED, np.uint8
        )
        # The nearest voxels first; what they leave open the next ones fill.
        offsets = sorted(range(-int(reach) - 1, int(reach) + 2), key=abs)
        for offset in offsets:
            index = np.rint(place).astype(int) + offset
            near = (np.abs(index - place) <= reach) & (index >= 0) & (index < side)
            taken = np.take(labels, np.clip(index, 0, side - 1), axis=axis)
            open_ = (laid == UNLABELLED) & np.expand_dims(
                near, tuple(a for a in range(3) if a != axis)
            )
            laid[open_] = taken[open_]
        labels = laid
    return labels


def lay_fractions(labels: NDArray[np.uint8], view: View, num_classes: int) -> NDArray[np.float32]:
    """Return how much of each voxel of the grid of the answers is drawn as which class.

    Args:
        labels: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
        view: The box that the grid covers, as a view of ``labels``.
        num_classes: Classes, background included.

    Returns:
        ``(*FINE_GRID, num_classes)`` fractions; they sum to 0 where nothing is drawn.
    """
    matrices = [
        sampling_matrix(fine, side, zoom=zoom, shift=shift)
        for fine, side, zoom, shift in zip(
            FINE_GRID, labels.shape, view.zoom, view.shift, strict=True
        )
    ]
    # One class at a time: all classes at full resolution would be far larger than the scan.
    parts = [
        resample((labels == value).astype(np.float32), matrices) for value in range(num_classes)
    ]
    return np.stack(parts, axis=-1)


def score_drawn(predicted: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> float:
    """Return the Dice of all structures together, where something is drawn; 1 if none is there.

    The mean over the structures would be decided by those that one slice shows a few voxels of.

    Args:
        predicted: ``(P, I, R)`` labels.
        drawn: ``(P, I, R)`` labels, ``UNLABELLED`` where nothing is drawn.
    """
    known = drawn != UNLABELLED
    found, wanted = predicted[known], drawn[known]
    right = int(np.count_nonzero((found == wanted) & (wanted > 0)))
    total = int(np.count_nonzero(found)) + int(np.count_nonzero(wanted))
    return 2 * right / total if total else 1.0
