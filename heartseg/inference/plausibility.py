"""Whether a scan can be of a heart by MR, and whether its segmentation is plausible."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.label_tables import blood_structures
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.description import Calibration
from heartseg.plurals import counted
from heartseg.scans.volume import Volume

LEAST_VOXELS = 8
"""Fewer along an axis are slices, not a volume."""
MOST_LABELS = 32
"""A scan has more intensities than this; a label map has fewer values."""
PLAUSIBLE_ML = (20.0, 2500.0)
"""The blood of all structures of HVSMR-2.0: 48 to 1071 mL in 57 patients, newborn to adult, and a
margin."""


def check_scan(image: Volume) -> None:
    """Check what is known of a scan before the network sees it.

    Raises:
        DataError: If the scan is a few slices only, holds one intensity only, or is a CT.
    """
    voxels = image.voxels
    if min(voxels.shape) < LEAST_VOXELS:
        raise DataError(
            f"expected a volume, found {counted(min(voxels.shape), 'slice')} ({voxels.shape}): "
            "this model needs the whole heart; for single slices train a model with model.kind: "
            "slices"
        )
    sample = voxels[::2, ::2, ::2]
    if sample.max() <= sample.min():
        raise DataError("every voxel has the same intensity: there is nothing to segment")
    # Hounsfield units: air near -1000, tissue between -200 and 300, nothing like it in MR.
    tissue = ((sample > -200) & (sample < 300)).mean()
    if sample.min() > -5000 and (sample < -500).mean() > 0.01 and tissue > 0.05:
        raise DataError(
            f"looks like CT (intensities from {sample.min():.0f} to {sample.max():.0f}, "
            f"{(sample < -500).mean():.0%} below -500, as air has in Hounsfield units); this model "
            "knows MR with bright blood only"
        )


def looks_like_labels(voxels: NDArray[np.floating]) -> bool:
    """Return whether the intensities of a scan are a few whole numbers, as in a label map."""
    values = np.unique(voxels[::2, ::2, ::2])
    return len(values) <= MOST_LABELS and bool((values == np.rint(values)).all())


def find_notices(
    labels: NDArray[np.uint8],
    stability: NDArray[np.float64],
    affine: NDArray[np.float64],
    calibration: Calibration | None,
    table: LabelTable = HVSMR,
) -> Iterator[str]:
    """Yield what makes a segmentation doubtful, in words.

    Args:
        labels: ``(X, Y, Z)`` label map.
        stability: ``(structures,)`` stability between views, NaN where absent; one at least is
            present.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        calibration: What the stability means; None if that was not measured for the model.
        table: The structures. How large a heart is, is known of those of HVSMR-2.0 only.
    """
    mean = mean_stability(stability)
    if calibration is not None and mean < calibration.sure:
        yield (
            f"the views of this scan agree only to {mean:.2f} ({calibration.usual:g} or more on "
            "hearts of the kind that the model knows); it may show another body part, contrast or "
            "orientation. Check the result before using it"
        )
    if not {structure.key for structure in HVSMR} <= {structure.key for structure in table}:
        return
    counts = np.bincount(labels.ravel(), minlength=table.num_classes)
    blood = int(counts[[structure.value for structure in blood_structures(table)]].sum())
    volume_ml = blood * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    low, high = PLAUSIBLE_ML
    if not low <= volume_ml <= high:
        yield (
            f"the blood of all structures has {volume_ml:.4g} mL; a heart has {low:g} to "
            f"{high:g} mL. Are the spacings in the header in millimetres?"
        )


def measure_confidence(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean probability of each structure over the voxels where it is the likeliest.

    Args:
        probabilities: ``(P, I, R, K)``.

    Returns:
        ``(K - 1,)`` values of 0 to 1; NaN for a structure that is nowhere the likeliest.
    """
    num_classes = probabilities.shape[-1]
    sums, counts = np.zeros(num_classes), np.zeros(num_classes, np.int64)
    # Layer by layer: the places of the maxima alone would take as much memory as two classes.
    for layer in probabilities:
        labels = layer.argmax(axis=-1).ravel()
        sums += np.bincount(labels, layer.max(axis=-1).ravel(), num_classes)
        counts += np.bincount(labels, minlength=num_classes)
    confidence = np.full(num_classes, np.nan)
    np.divide(sums, counts, out=confidence, where=counts > 0)
    return confidence[1:]


def is_doubtful(
    stability: NDArray[np.float64],
    calibration: Calibration | None,
    confidence: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Decide which structures are doubtful: all of them where the whole heart is.

    Args:
        stability: ``(structures,)`` stability between views, NaN where absent.
        calibration: What the values mean; None calls no structure doubtful.
        confidence: ``(structures,)``; see ``measure_confidence``. Where it is known and was
            calibrated, it ranks errors better than the stability and decides in its place.

    Returns:
        ``(structures,)``, False where absent.
    """
    if calibration is None:
        return np.zeros(stability.shape, bool)
    unsure = ~np.isnan(stability) & (mean_stability(stability) < calibration.sure)
    poor = stability < calibration.doubtful
    if confidence is not None and calibration.confident is not None:
        poor = confidence < calibration.confident
    return np.asarray(poor | unsure)


def mean_stability(stability: NDArray[np.float64]) -> float:
    """Return the mean stability of all structures that were found, at least one."""
    return float(np.nanmean(stability))
