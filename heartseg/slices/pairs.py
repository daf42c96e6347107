"""Slices on disk with their colour masks: found in pairs by name, and read together."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from heartseg.errors import DataError
from heartseg.files import list_folder, natural_key
from heartseg.labels import LabelTable
from heartseg.slices.neighbours import stack_files
from heartseg.slices.store import load_gray, load_mask

_IMAGES, _MASKS = "images", "masks"
_ALIGNMENT = 64
_DECODING = Lock()


@dataclass(frozen=True)
class SlicePair:
    """A slice and its colour mask.

    Attributes:
        image_file: Grey PNG.
        mask_file: Colour PNG of the same name and size.
        seen_files: Grey PNGs of the slice, between those of the neighbours that the network sees;
            empty if it sees the slice alone.
    """

    image_file: Path
    mask_file: Path
    seen_files: tuple[Path, ...] = ()

    @property
    def image_files(self) -> tuple[Path, ...]:
        """The grey PNGs that the network sees, in its order of channels."""
        return self.seen_files or (self.image_file,)

    @property
    def name(self) -> str:
        """The name of both files without suffix: ``pat4_079``."""
        return self.image_file.stem


def find_pairs(
    part_dir: Path,
    *,
    may_be_empty: bool = False,
    context: int = 0,
    descending: Collection[str] = (),
) -> list[SlicePair]:
    """Pair the PNG files in ``images/`` with those of the same name in ``masks/``.

    Args:
        part_dir: The folder with both subfolders.
        may_be_empty: Whether to return an empty list, rather than fail, if there is no pair.
        context: Neighbours on either side of a slice that the network sees.
        descending: Cases whose slices are numbered toward left, posterior or inferior.

    Returns:
        All pairs in natural order (``pat2`` before ``pat10``).

    Raises:
        DataError: If there is no pair, a folder must not be read, or files have no partner; the
            message lists all of these. If a neighbour is missing.
    """
    images, masks = (_list_png_names(part_dir / kind) for kind in (_IMAGES, _MASKS))
    alone = [
        f"{part_dir / kind / name} (no {part_dir / other / name})"
        for kind, other, names in (
            (_IMAGES, _MASKS, images - masks),
            (_MASKS, _IMAGES, masks - images),
        )
        for name in sorted(names, key=natural_key)
    ]
    if alone:
        raise DataError(
            f"{part_dir}: expected each slice in images/ and in masks/, found in one of them only "
            f"({len(alone)}):\n  - " + "\n  - ".join(alone)
        )
    if not images and not may_be_empty:
        raise DataError(
            f"{part_dir}: expected PNG files in images/ and masks/, found none; run `heartseg "
            "split` first"
        )
    files = [part_dir / _IMAGES / name for name in sorted(images, key=natural_key)]
    seen = _find_neighbours(files, context, descending) if context else {}
    return [SlicePair(file, part_dir / _MASKS / file.name, seen.get(file, ())) for file in files]


def _find_neighbours(
    files: Sequence[Path], context: int, descending: Collection[str]
) -> dict[Path, tuple[Path, ...]]:
    cases: dict[str, list[Path]] = {}
    for file in files:
        cases.setdefault(file.stem.rpartition("_")[0], []).append(file)
    found: dict[Path, tuple[Path, ...]] = {}
    for case, slices in cases.items():
        found |= stack_files(slices, context, ascending=case not in descending)
    return found


def _list_png_names(folder: Path) -> set[str]:
    return {file.name for file in list_folder(folder, missing_ok=True) if file.suffix == ".png"}


def read_pairs(
    pairs: Sequence[SlicePair], table: LabelTable, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read slices and their labels.

    Args:
        pairs: The files.
        table: The label of each colour.
        shape: Height and width that each slice must have.

    Returns:
        ``(N, S, H, W)`` grey levels of each slice and its neighbours, and ``(N, H, W)`` labels,
        both uint8.

    Raises:
        DataError: If a file is unreadable or has another size, or a colour is not in the table.
    """
    # A slice may be the neighbour of several.
    files = {file for pair in pairs for file in pair.image_files}
    grays = {file: load_gray(file) for file in sorted(files)}
    masks = [load_mask(pair.mask_file) for pair in pairs]
    for picture in (*grays.values(), *masks):
        if picture.shape != shape:
            raise DataError(
                f"{picture.file}: expected {shape[1]} x {shape[0]} pixels (prepare.image_width and "
                f"prepare.image_height), found {picture.shape[1]} x {picture.shape[0]}"
            )
    # One thread at a time: NumPy's calls are so short here that several threads would spend more
    # time waiting for Python's global lock than working.
    with _DECODING:
        images = np.empty((len(pairs), len(pairs[0].image_files), *shape), np.uint8)
        labels = empty_aligned((len(pairs), *shape))
        for index, (pair, mask) in enumerate(zip(pairs, masks, strict=True)):
            for image, file in zip(images[index], pair.image_files, strict=True):
                grays[file].gray(out=image)
            mask.labels(table, out=labels[index])
    return images, labels


def empty_aligned(shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Return an array of arbitrary content that TensorFlow can use without copying it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
