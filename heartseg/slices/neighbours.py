"""The neighbours of a slice in its scan, which a network may see as further channels.

They are ordered toward the patient's right, anterior or superior, whichever way a file stores them.
Where a scan ends, its slices are mirrored: before slice 0 comes slice 1.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError


def neighbours(index: int, count: int, context: int, *, ascending: bool = True) -> list[int]:
    """Return a slice with its neighbours on either side.

    Args:
        index: Number of the slice, from 0.
        count: Slices of the scan.
        context: Neighbours on either side.
        ascending: Whether slices are stored toward right, anterior or superior.

    Returns:
        ``2 * context + 1`` numbers of slices, the slice itself in the middle.
    """
    # A walk to one end and back passes each slice twice, except for the two at the ends.
    walk = max(2 * (count - 1), 1)
    found = [place % walk for place in range(index - context, index + context + 1)]
    found = [min(place, walk - place) if count > 1 else 0 for place in found]
    return found if ascending else found[::-1]


def stack_slices(
    read: Callable[[int], NDArray[np.uint8]], count: int, context: int, *, ascending: bool = True
) -> Iterator[NDArray[np.uint8]]:
    """Yield each slice of a scan with its neighbours; every slice is read once.

    Args:
        read: Returns the ``(H, W)`` slice of a number.
        count: Slices of the scan.
        context: Neighbours on either side.
        ascending: As in ``neighbours``.

    Yields:
        ``(2 * context + 1, H, W)`` slices.
    """
    read_once = lru_cache(maxsize=2 * context + 1)(read)
    for index in range(count):
        places = neighbours(index, count, context, ascending=ascending)
        yield np.stack([read_once(place) for place in places])


def stack_files(
    files: Sequence[Path], context: int, *, ascending: bool = True
) -> dict[Path, tuple[Path, ...]]:
    """Find the files of the neighbours of each slice of a case.

    Args:
        files: All slices of the case, named ``CASE_SSS.png``, in the order of their numbers.
        context: Neighbours on either side.
        ascending: As in ``neighbours``.

    Returns:
        The files of ``neighbours`` for each file.

    Raises:
        DataError: If a slice is missing in between, or a name has no number.
    """
    numbers = [file.stem.rpartition("_")[2] for file in files]
    if not all(number.isdecimal() for number in numbers):
        raise DataError(
            f"{files[0]}: expected a name like CASE_000.png, whose number tells neighbours "
            "(model.context), found another"
        )
    if [int(number) for number in numbers] != list(range(len(files))):
        raise DataError(
            f"{files[0].parent}: expected all slices of a case from number 0 on, since the network "
            f"sees their neighbours (model.context), found gaps between {files[0].name} and "
            f"{files[-1].name}; run `heartseg prepare` with prepare.keep_empty: true, then split"
        )
    return {
        file: tuple(
            files[place] for place in neighbours(index, len(files), context, ascending=ascending)
        )
        for index, file in enumerate(files)
    }
