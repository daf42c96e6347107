"""The second stage: probabilities of the first, corrected part by part on a finer grid."""

from collections.abc import Callable
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ModelError
from heartseg.inference.views import Box, softmax
from heartseg.modelfile.description import SecondStage
from heartseg.progress import Report, silent
from heartseg.scans.resampling import resample, sampling_matrix

Correct: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""``(1, *patch, 1 + K)`` image and probabilities to ``(1, *patch, K)`` logits."""
OVERLAP = 16
"""Voxels by which neighbouring patches overlap, or a quarter of them if that is less: no border
between two of them is to be seen."""


def correct_probabilities(
    correct: Correct,
    stage: SecondStage,
    image: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    *,
    report: Report = silent,
) -> NDArray[np.float32]:
    """Correct what the first stage found in the box around a heart.

    Where patches overlap, each counts less towards its border.

    Args:
        correct: The network.
        stage: The grid over the box, and what the network sees of it at once.
        image: ``(*stage.grid)`` intensities over the box, blood near 1.
        probabilities: ``(P, I, R, K)`` over the same box, on a grid of any size.
        report: Called after each patch.

    Returns:
        ``(*stage.grid, K)`` probabilities.

    Raises:
        ModelError: If the network's answer has another shape.
    """
    num_classes = probabilities.shape[-1]
    total = np.zeros((*stage.grid, num_classes), np.float32)
    weights = np.zeros((*stage.grid, 1), np.float32)
    taper = _taper(stage)
    patches = find_patches(stage)
    for number, patch in enumerate(patches, start=1):
        logits = correct(cut_patch(stage, patch, image, probabilities))
        if logits.shape != (1, *stage.patch, num_classes):
            raise ModelError(
                f"expected logits of shape {(1, *stage.patch, num_classes)} from the second stage, "
                f"got {logits.shape}"
            )
        total[patch] += softmax(logits[0]) * taper
        weights[patch] += taper
        report(number, len(patches), f"second stage, part {number} of {len(patches)}")
    total /= weights
    return total


def cut_patch(
    stage: SecondStage,
    patch: Box,
    image: NDArray[np.float32],
    probabilities: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return what the network sees of a patch: ``(1, *patch, 1 + K)`` image and probabilities.

    Args:
        stage: The grid over the box.
        patch: Voxels of the grid.
        image: As in ``correct_probabilities``.
        probabilities: As in ``correct_probabilities``.
    """
    # Resampled for each patch: the whole grid would take a third more memory.
    given = resample(
        probabilities,
        [
            sampling_matrix(fine, side)[part]
            for fine, side, part in zip(stage.grid, probabilities.shape, patch, strict=False)
        ],
    )
    return np.concatenate([image[patch][..., np.newaxis], given], axis=-1)[np.newaxis]


def find_patches(stage: SecondStage) -> list[Box]:
    """Return the patches that cover the grid, evenly spaced along each axis."""
    lines = []
    for side, part, overlap in zip(stage.grid, stage.patch, find_overlap(stage), strict=True):
        count = max(1, -(-(side - overlap) // (part - overlap)))
        starts = [round(number * (side - part) / max(count - 1, 1)) for number in range(count)]
        lines.append([slice(start, start + part) for start in starts])
    return [(p, i, r) for p, i, r in product(*lines)]


def find_overlap(stage: SecondStage) -> tuple[int, ...]:
    """Return by how many voxels neighbouring patches overlap at least, along each axis."""
    return tuple(min(OVERLAP, part // 4) for part in stage.patch)


def _taper(stage: SecondStage) -> NDArray[np.float32]:
    """Return the ``(*patch, 1)`` weight of each voxel of a patch: less towards its border."""
    lines = []
    for part, overlap in zip(stage.patch, find_overlap(stage), strict=True):
        distance = np.minimum(np.arange(part), np.arange(part)[::-1]) + 1
        lines.append(np.minimum(distance / overlap, 1).astype(np.float32))
    return np.asarray(np.einsum("p,i,r->pir", *lines)[..., np.newaxis], np.float32)
