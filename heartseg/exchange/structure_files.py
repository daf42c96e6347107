"""One mask file per structure, as TotalSegmentator and 3D printing programs use them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.labels import LabelTable, Structure
from heartseg.scans.provenance import Provenance
from heartseg.scans.volume import Volume, write_label_map


def choose_structures(table: LabelTable, keys: Sequence[str] | None) -> tuple[Structure, ...]:
    """Return the structures with these keys, in the order of the table; None: all of them.

    Raises:
        DataError: If a key is not in the table, or none is named.
    """
    if keys is None:
        return table.foreground
    wanted = {key.strip().upper() for key in keys}
    known = {structure.key.upper() for structure in table.foreground}
    if not wanted or wanted - known:
        raise DataError(
            f"structures: expected some of {', '.join(s.key for s in table.foreground)}, found "
            f"{', '.join(sorted(wanted - known)) or 'none'}"
        )
    return tuple(s for s in table.foreground if s.key.upper() in wanted)


def keep_structures(
    labels: NDArray[np.uint8], structures: Sequence[Structure]
) -> NDArray[np.uint8]:
    """Return a label map in which every other structure is background."""
    kept = np.zeros(256, np.uint8)
    for structure in structures:
        kept[structure.value] = structure.value
    return kept[labels]


def split_files(folder: Path, name: str, structures: Sequence[Structure]) -> list[Path]:
    """Return where the masks of a scan go, one per structure: ``NAME_LV.nii.gz``."""
    return [folder / f"{name}_{structure.key}.nii.gz" for structure in structures]


def write_split(
    files: Sequence[Path],
    labels: NDArray[np.uint8],
    *,
    like: Volume,
    structures: Sequence[Structure],
    provenance: Provenance | None = None,
) -> None:
    """Write one mask per structure: 1 where the structure is, 0 elsewhere.

    An absent structure has an empty mask, so that every scan has the same files.

    Args:
        files: Where to, one file per structure; see ``split_files``.
        labels: ``(X, Y, Z)`` label map, the shape of ``like``.
        like: The volume that was segmented.
        structures: The structures that are wanted.
        provenance: The model that made the label map.

    Raises:
        DataError: If a file cannot be written.
        ValueError: If the shapes differ.
    """
    for file, structure in zip(files, structures, strict=True):
        background = Structure(0, "background", "background", (0, 0, 0))
        own = Structure(1, structure.key, structure.name, structure.color)
        mask = (labels == structure.value).astype(np.uint8)
        table = LabelTable((background, own))
        write_label_map(file, mask, like=like, table=table, provenance=provenance)
