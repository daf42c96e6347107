"""What is known of every heart, applied to a predicted label map."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.label_tables import blood_structures
from heartseg.labels import HVSMR, LabelTable

_NEARLY_AS_LARGE = 0.5
"""A part that is so large beside the largest stays: a scan may end between two parts of an aorta,
and where a model leaves a gap, nothing says which of two such parts has the wrong label."""
# There may be a superior vena cava on each side: its second component is no debris. Thin muscle may
# be interrupted.
_SEVERAL_COMPONENTS = {"SVC": 0.2, "MYO": 0.2}
# Of 57 hearts 6 have no right ventricle and 10 no right atrium; where there is one, it takes less
# of the heart in one of them only.
_LEAST_FRACTION = {"RV": 0.02, "RA": 0.02}
TOUCHING = np.ones((3, 3, 3), bool)
"""Voxels that share a face, an edge or a corner are connected (26-connectivity)."""


def clean_up(labels: NDArray[np.uint8], table: LabelTable) -> NDArray[np.uint8]:
    """Apply to a label map what is known of hearts; see ``keep_largest_components``.

    Of structures that HVSMR-2.0 does not label nothing is known: they keep all their components.

    Args:
        labels: ``(X, Y, Z)`` label map.
        table: What its values mean.

    Returns:
        A new label map of the same shape.
    """
    of_hvsmr = {structure.key for structure in HVSMR}
    keep = {
        s.value: _SEVERAL_COMPONENTS.get(s.key, _NEARLY_AS_LARGE if s.key in of_hvsmr else 0.0)
        for s in table.foreground
    }
    # The fractions are of the blood of all structures together.
    complete = {s.key for s in table} >= of_hvsmr
    least = {
        s.value: _LEAST_FRACTION[s.key] for s in table if complete and s.key in _LEAST_FRACTION
    }
    blood = [s.value for s in blood_structures(table)]
    return keep_largest_components(labels, keep_fraction=keep, least_fraction=least, whole=blood)


def keep_largest_components(
    labels: NDArray[np.uint8],
    *,
    keep_fraction: Mapping[int, float] | None = None,
    least_fraction: Mapping[int, float] | None = None,
    whole: Collection[int] | None = None,
) -> NDArray[np.uint8]:
    """Keep the largest connected component of each structure; the others have the wrong label.

    Each of the others takes the label of the structure that it touches most, and becomes background
    where it touches none.

    Args:
        labels: ``(X, Y, Z)`` label map.
        keep_fraction: For structures that may have several components: a component stays if it
            has at least this fraction of the largest one's voxels; 0 keeps every component.
        least_fraction: For structures that may be missing: where all components together have a
            smaller fraction of the whole, all of them have the wrong label.
        whole: The structures that make up the whole; None: all.

    Returns:
        A new label map of the same shape. Of two largest components of equal size the first stays.
    """
    fractions = keep_fraction or {}
    kept = labels.copy()
    _remove_too_small(kept, least_fraction or {}, whole)
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        # A view: only the box that holds the structure is searched.
        region = kept[box]
        components, count = ndimage.label(region == value, structure=TOUCHING)
        if count < 2:
            continue
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        stays = np.zeros(count + 1, bool)
        stays[np.argmax(sizes)] = True
        if value in fractions:
            stays |= sizes >= fractions[value] * sizes.max()
        stays[0] = True
        region[~stays[components]] = 0
    _relabel(kept, labels)
    return kept


def _remove_too_small(
    kept: NDArray[np.uint8], least_fraction: Mapping[int, float], whole: Collection[int] | None
) -> None:
    """Make structures background that are too small to be there, in place."""
    counts = np.bincount(kept.ravel(), minlength=256)
    counted = range(1, 256) if whole is None else whole
    total = counts[list(counted)].sum()
    for value, fraction in least_fraction.items():
        if counts[value] < fraction * total:
            kept[kept == value] = 0


def _relabel(kept: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Give the components of ``labels`` that are gone the label of a neighbour, in place."""
    components, _ = ndimage.label((labels > 0) & (kept == 0), structure=TOUCHING)
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        around = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        component = components[around] == number
        region = kept[around]
        touched = region[ndimage.binary_dilation(component, TOUCHING) & (region > 0)]
        if touched.size:
            region[component] = np.bincount(touched).argmax()
