"""What is known of a heart, applied to a predicted label map."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.labels import LabelTable

# There may be a superior vena cava on each side: its second piece is no debris.
_BILATERAL = {"SVC": 0.2}
# Of 57 hearts 6 have no right ventricle and 10 no right atrium; where there is one, it takes less
# of the heart in one of them only.
_LEAST_SHARE = {"RV": 0.02, "RA": 0.02}
TOUCHING = np.ones((3, 3, 3), bool)
"""Voxels that share a face, an edge or a corner belong to one piece (26-connectivity)."""


def clean_up(labels: NDArray[np.uint8], table: LabelTable) -> NDArray[np.uint8]:
    """Apply to a label map what is known of hearts; see ``keep_largest_components``.

    Args:
        labels: ``(X, Y, Z)`` label map.
        table: What its values mean.
    """
    keep, least = (
        {s.value: known[s.key] for s in table.foreground if s.key in known}
        for known in (_BILATERAL, _LEAST_SHARE)
    )
    return keep_largest_components(labels, keep_fraction=keep, least_share=least)


def keep_largest_components(
    labels: NDArray[np.uint8],
    *,
    keep_fraction: Mapping[int, float] | None = None,
    least_share: Mapping[int, float] | None = None,
) -> NDArray[np.uint8]:
    """Keep the largest connected piece of each structure; the others were named wrongly.

    Another piece takes the name of the structure that it touches most, and becomes background
    where it touches none.

    Args:
        labels: ``(X, Y, Z)`` label map.
        keep_fraction: For structures that may come in several pieces: a piece stays if it has at
            least this share of the largest one's voxels; 0 keeps every piece.
        least_share: For structures that may be missing: with a smaller share of all labelled voxels
            every piece was named wrongly.

    Returns:
        A new label map of the same shape. Of two largest pieces of equal size the first stays.
    """
    fractions = keep_fraction or {}
    kept = labels.copy()
    counts = np.bincount(labels.ravel())
    for value, share in (least_share or {}).items():
        if value < len(counts) and counts[value] < share * counts[1:].sum():
            kept[kept == value] = 0
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        # A view: only the box that holds the structure is searched.
        region = kept[box]
        pieces, count = ndimage.label(region == value, structure=TOUCHING)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        stays = np.zeros(count + 1, bool)
        stays[np.argmax(sizes)] = True
        if value in fractions:
            stays |= sizes >= fractions[value] * sizes.max()
        stays[0] = True
        region[~stays[pieces]] = 0
    _rename(kept, labels)
    return kept


def _rename(kept: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Give the pieces of ``labels`` that are gone the names of their neighbours, in place."""
    pieces, _ = ndimage.label((labels > 0) & (kept == 0), structure=TOUCHING)
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        around = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        piece = pieces[around] == number
        names = kept[around]
        touched = names[ndimage.binary_dilation(piece, TOUCHING) & (names > 0)]
        if touched.size:
            names[piece] = np.bincount(touched).argmax()


def touches_border(labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
    """Tell which classes reach the border of the volume, and so may be cut off by it.

    Args:
        labels: ``(X, Y, Z)`` label map, values below ``num_classes``.
        num_classes: Number of classes, background included.

    Returns:
        ``(num_classes,)``, True where the class has a voxel in an outermost layer.
    """
    touched = np.zeros(num_classes, bool)
    for axis in range(labels.ndim):
        for end in (0, -1):
            touched[np.unique(labels.take(end, axis=axis))] = True
    return touched
