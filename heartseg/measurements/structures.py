"""What is counted of every structure of a label map: volume, intensity, ratios; at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import Structure

RATIOS = (("RV", "LV"), ("RA", "LA"))


@dataclass(frozen=True)
class StructureMeasurement:
    """What is counted of a structure.

    Attributes:
        structure: Its key.
        voxels: Number of its voxels; 0 if it is absent.
        volume_ml: Volume of its voxels.
        volume_ml_per_m2: The volume per body surface area; None if that is unknown.
        mean_intensity: Mean of the scan over its voxels; None without a scan, or if it is absent.
        truncated: Whether it reaches the border of the scan, so that every measurement is of the
            part that was scanned.
    """

    structure: str
    voxels: int
    volume_ml: float
    volume_ml_per_m2: float | None
    mean_intensity: float | None
    truncated: bool


@dataclass(frozen=True)
class VolumeRatio:
    """The volume of one structure over that of another.

    Attributes:
        name: ``RV/LV`` or ``RA/LA``.
        structure: Key of the first one.
        ratio: The ratio; None unless both are there.
        truncated: Whether one of them reaches the border of the scan.
    """

    name: str
    structure: str
    ratio: float | None
    truncated: bool


def measure_structures(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    structures: Sequence[Structure],
    image: NDArray[np.floating] | None = None,
    *,
    body_m2: float | None = None,
    shown: tuple[slice, slice, slice] | None = None,
) -> tuple[StructureMeasurement, ...]:
    """Measure structures of a label map.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        structures: The structures that are wanted.
        image: ``(X, Y, Z)`` intensities of the scan.
        body_m2: Body surface area, to which volumes are indexed.
        shown: The part of the arrays that was scanned, without a margin; None: all of them.

    Returns:
        One measurement per wanted structure, in their order; absent ones too.

    Raises:
        ValueError: If the shapes differ.
    """
    if image is not None and image.shape != labels.shape:
        raise ValueError(f"image: expected shape {labels.shape}, got {image.shape}")
    from scipy import ndimage

    num_classes = max((s.value for s in structures), default=0) + 1
    boxes = ndimage.find_objects(labels, max_label=num_classes - 1)
    scanned = labels if shown is None else labels[shown]
    truncated = touches_border(scanned, max(num_classes, int(labels.max(initial=0)) + 1))
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    measured = []
    for structure in structures:
        voxels, mean = 0, None
        box = boxes[structure.value - 1]
        if box is not None:
            mask = labels[box] == structure.value
            voxels = int(np.count_nonzero(mask))
            if image is not None:
                mean = float(image[box][mask].mean(dtype=np.float64))
        volume_ml = voxels * voxel_ml
        measured.append(
            StructureMeasurement(
                structure.key,
                voxels,
                volume_ml,
                None if body_m2 is None else volume_ml / body_m2,
                mean,
                bool(truncated[structure.value]),
            )
        )
    return tuple(measured)


def compute_ratios(measurements: Sequence[StructureMeasurement]) -> tuple[VolumeRatio, ...]:
    """Compare right and left ventricle, and right and left atrium.

    Args:
        measurements: Of one label map. A ratio whose structures are not among them is left out.
    """
    by_key = {entry.structure.upper(): entry for entry in measurements}
    ratios = []
    for right, left in RATIOS:
        if right in by_key and left in by_key:
            first, second = by_key[right], by_key[left]
            both = first.voxels > 0 and second.voxels > 0
            ratios.append(
                VolumeRatio(
                    f"{right}/{left}",
                    first.structure,
                    first.volume_ml / second.volume_ml if both else None,
                    first.truncated or second.truncated,
                )
            )
    return tuple(ratios)


def touches_border(labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.bool_]:
    """Find the classes that reach the border of the volume, and so may be cut off by it.

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
