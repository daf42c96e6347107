"""Where the heart is in a scan, and how bright its blood is: found by viewing it several times."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.inference.views import HEART_FRACTION, View, ViewedScan, as_triple
from heartseg.progress import Report, silent
from heartseg.scans.intensity import blood_level

STEP_RANGE = (0.6, 1.25)
"""By how much one step may change the box: the first view of a large scan is a rough one."""
LEAST_HEART = 0.3
"""A voxel that is more probably a structure than this belongs into the box."""
GAP = 2
"""Parts of the heart that lie up to twice as many voxels apart count as connected."""
SAME_BOX = 0.02
"""Boxes whose places differ by less than this fraction of their extent are the same."""
SAME_LEVEL = 0.03
"""Levels of blood whose ratio differs from 1 by less than this are the same."""
MOST_STEPS = 8


def find_box(
    scan: ViewedScan, *, start: View | None = None, report: Report = silent
) -> View | None:
    """Find the box around the heart: view the scan, place the box around the heart, view again.

    The intensity of blood is measured on the way and kept in ``scan.level``. Neither it nor the box
    depends on what else the scan shows.

    Args:
        scan: The scan.
        start: The first view; None: the whole scan.
        report: Called after each view.

    Returns:
        The view in which the heart has its place in training, as far as the scan goes; None where
        nothing is found.
    """
    view = start or View()
    for step in range(MOST_STEPS):
        image = scan.image(view)
        heart = 1 - scan.classify(image)[..., 0]
        report(step, MOST_STEPS, "looking for the heart")
        if not (heart > 0.5).any():
            return None
        found = _largest_component(heart > LEAST_HEART)
        ratio = blood_level(image, found & (heart > 0.5))
        before, view = view, _inside(_view_around(found).within(view))
        if ratio <= 0 or (_is_same(view, before) and abs(np.log(ratio)) < SAME_LEVEL):
            break
        scan.level *= float(np.clip(ratio, 0.5, 2))
    return view


def _largest_component(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest component: what else is taken for blood far away must not widen the box."""
    joined = ndimage.binary_dilation(found, iterations=GAP)
    components, count = ndimage.label(joined)
    if count < 2:
        return found
    sizes = np.bincount(components[found], minlength=count + 1)
    return np.asarray(found & (components == sizes[1:].argmax() + 1))


def _view_around(found: NDArray[np.bool_]) -> View:
    """Return the view in which a heart has the place that it has in training."""
    zooms, shifts = [], []
    for axis, fraction in enumerate(HEART_FRACTION):
        places = np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = places[0] / found.shape[axis], (places[-1] + 1) / found.shape[axis]
        zooms.append(float(np.clip((high - low) / fraction, *STEP_RANGE)))
        shifts.append((low + high) / 2 - 0.5)
    return View(as_triple(zooms), as_triple(shifts))


def _is_same(view: View, other: View) -> bool:
    return all(
        abs(zoom / other_zoom - 1) < 2 * SAME_BOX and abs(shift - other_shift) < SAME_BOX * zoom
        for zoom, other_zoom, shift, other_shift in zip(
            view.zoom, other.zoom, view.shift, other.shift, strict=True
        )
    )


def _inside(view: View) -> View:
    """Move a view so that it does not leave the volume."""
    zoom = as_triple(min(z, 1.0) for z in view.zoom)
    return View(
        zoom,
        as_triple(
            float(np.clip(s, (z - 1) / 2, (1 - z) / 2))
            for z, s in zip(zoom, view.shift, strict=True)
        ),
    )
