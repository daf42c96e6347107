"""What a scan must be for the whole-heart network, and when its answer is not to be trusted."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.scans.volume import Volume

LEAST_VOXELS = 8
"""Fewer along an axis are slices, not a volume."""
DOUBTFUL = 0.75
"""Below this agreement of the views a structure is doubtful: on real hearts it was 0.86 or more."""
SURE = 0.8
"""Mean agreement of all structures; below, the scan is unlike the training data: on real hearts it
was 0.89 or more, on hearts upside down, other contrasts and noise 0.77 or less."""
HOPELESS = 0.68
"""Mean agreement on noise and shuffled voxels was less."""
PLAUSIBLE_ML = (20.0, 2500.0)
"""All structures together: 48 to 1071 mL in 57 patients from newborn to adult, with room."""


def check_league(image: Volume) -> None:
    """Check what can be told of a scan without the network.

    Raises:
        DataError: If it is a few slices only, empty, or by CT.
    """
    voxels = image.voxels
    if min(voxels.shape) < LEAST_VOXELS:
        raise DataError(
            f"expected a volume, found {min(voxels.shape)} slices ({voxels.shape}): the packaged "
            "model needs the whole heart; train a model of slices for single ones"
        )
    sample = voxels[::2, ::2, ::2]
    if sample.max() <= sample.min():
        raise DataError("every voxel has the same intensity: there is nothing to segment")
    # Hounsfield units: air near -1000, tissue between -200 and 300, nothing like it in MR.
    tissue = ((sample > -200) & (sample < 300)).mean()
    if sample.min() > -5000 and (sample < -500).mean() > 0.01 and tissue > 0.05:
        raise DataError(
            f"looks like CT (intensities from {sample.min():.0f} to {sample.max():.0f}, "
            f"{(sample < -500).mean():.0%} below -500 as air in Hounsfield units); the packaged "
            "model knows MR with bright blood only"
        )


def find_notices(
    labels: NDArray[np.uint8], quality: NDArray[np.float64], affine: NDArray[np.float64]
) -> Iterator[str]:
    """Yield what makes a result doubtful, in words."""
    agreement = mean_quality(quality)
    if agreement < SURE:
        yield (
            f"the looks at this scan agree only to {agreement:.2f} (on hearts of the kind that the "
            "model knows: 0.89 or more); it may be another body part, contrast or orientation, so "
            "do not use the result unseen"
        )
    volume_ml = np.count_nonzero(labels) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    low, high = PLAUSIBLE_ML
    if not low <= volume_ml <= high:
        yield (
            f"all structures together have {volume_ml:.4g} mL, no volume of a heart; are the "
            "spacings in the header in millimetres?"
        )


def is_doubtful(quality: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which structures are not to be trusted: all of them where the whole is not.

    Args:
        quality: ``(structures,)`` agreement, NaN where absent.
    """
    return np.asarray((quality < DOUBTFUL) | (~np.isnan(quality) & (mean_quality(quality) < SURE)))


def mean_quality(quality: NDArray[np.float64]) -> float:
    """Return the mean agreement of all structures that were found."""
    return float(np.nanmean(quality))
