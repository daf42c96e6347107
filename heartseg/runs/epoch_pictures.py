"""Pictures of a few validation slices after each epoch: which slices, their look, their names."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import LabelTable
from heartseg.slices.pairs import SlicePair
from heartseg.slices.store import read_color, write_color

MOST_CANDIDATES = 240
"""Slices that are looked at to find the fullest: reading more of them takes seconds."""


def choose_slices(pairs: Sequence[SlicePair], count: int) -> list[SlicePair]:
    """Choose the slices that show most of the hearts, and many hearts.

    Args:
        pairs: Slices of which the names begin with their case: ``CASE_SSS``.
        count: How many to choose, at most.

    Returns:
        First the slice of each case with the most foreground, then the second of each, and so on;
        in the order of ``pairs``, the same for the same slices.
    """
    step = -(-len(pairs) // MOST_CANDIDATES)
    by_case: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for position in range(0, len(pairs), max(step, 1)):
        foreground = int(np.count_nonzero(read_color(pairs[position].mask_file).any(axis=-1)))
        by_case[pairs[position].name.rpartition("_")[0]].append((-foreground, position))
    ranked = sorted(
        (rank, foreground, position)
        for entries in by_case.values()
        for rank, (foreground, position) in enumerate(sorted(entries))
    )
    return [pairs[position] for position in sorted(p for _, _, p in ranked[:count])]


def name_picture(folder: Path, name: str, epoch: int | None = None) -> Path:
    """Return the file of a picture; names sort by epoch. Without an epoch it is the reference."""
    return folder / (f"Reference_{name}.png" if epoch is None else f"Epoch_{epoch:03d}_{name}.png")


def write_beside(
    file: Path, image: NDArray[np.uint8], labels: NDArray[np.uint8], table: LabelTable
) -> None:
    """Write a slice and, at its right, its colour mask.

    Args:
        file: PNG to write.
        image: ``(H, W)`` grey levels.
        labels: ``(H, W)`` labels.
        table: The labels and their colours.
    """
    gray = np.repeat(image[..., np.newaxis], 3, axis=-1)
    write_color(file, np.concatenate([gray, table.palette[labels]], axis=1))
