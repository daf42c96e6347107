"""The measurements of every structure of a label map."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import LabelTable
from heartseg.measurements.diameters import VesselDiameters, measure_diameters
from heartseg.surfaces.label_surfaces import fit_labels

VESSELS = ("AO", "PA", "SVC", "IVC")
"""Structures that have a centreline."""
RATIOS = (("RV", "LV"), ("RA", "LA"))


@dataclass(frozen=True)
class StructureMeasurement:
    """What is measured of a structure.

    Attributes:
        structure: Its key.
        volume_ml: Volume of its voxels; 0 if it is absent.
        volume_ml_per_m2: The volume per body surface area; None if that is unknown.
        surface_area_mm2: Area of its smooth surface; None if it is absent.
        mean_intensity: Mean of the scan over its voxels; None without a scan, or if it is absent.
        diameters: Of a vessel; None for chambers, and for what is too small to have a centreline.
        truncated: Whether it reaches the border of the scan, so that every measurement is of the
            part that was scanned.
    """

    structure: str
    volume_ml: float
    volume_ml_per_m2: float | None
    surface_area_mm2: float | None
    mean_intensity: float | None
    diameters: VesselDiameters | None
    truncated: bool


@dataclass(frozen=True)
class VolumeRatio:
    """The volume of one structure over that of another.

    Attributes:
        name: ``RV/LV`` or ``RA/LA``.
        ratio: The ratio; None unless both are there.
        truncated: Whether one of them reaches the border of the scan.
    """

    name: str
    ratio: float | None
    truncated: bool


def measure_structures(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    table: LabelTable,
    image: NDArray[np.floating] | None = None,
    *,
    body_m2: float | None = None,
) -> tuple[StructureMeasurement, ...]:
    """Measure each structure, background left out.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres: right, anterior, superior.
        table: The structures.
        image: ``(X, Y, Z)`` intensities of the scan.
        body_m2: Body surface area, to which volumes are indexed.

    Returns:
        One measurement per structure of the table, in its order; absent ones too.

    Raises:
        ValueError: If the shapes differ.
    """
    if image is not None and image.shape != labels.shape:
        raise ValueError(f"image: expected shape {labels.shape}, got {image.shape}")
    counts = np.bincount(labels.ravel(), minlength=table.num_classes)
    present = [structure for structure in table.foreground if counts[structure.value]]
    truncated = _find_truncated(labels)
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    areas: dict[str, float] = {}
    diameters: dict[str, VesselDiameters | None] = {}
    if present:
        groups = {structure.key: frozenset({structure.value}) for structure in present}
        smooth, fit = fit_labels(labels, affine, list(groups.values()))
        areas = {key: fit.meshes[group].area_mm2 for key, group in groups.items()}
        diameters = {
            key: measure_diameters(*smooth.margin(group, fit.weights))
            for key, group in groups.items()
            if key.upper() in VESSELS
        }
    means: dict[int, float] = {}
    if image is not None:
        sums = np.bincount(labels.ravel(), image.ravel(), minlength=table.num_classes)
        means = {s.value: float(sums[s.value] / counts[s.value]) for s in present}
    return tuple(
        StructureMeasurement(
            structure.key,
            float(counts[structure.value]) * voxel_ml,
            None if body_m2 is None else float(counts[structure.value]) * voxel_ml / body_m2,
            areas.get(structure.key),
            means.get(structure.value),
            diameters.get(structure.key),
            structure.value in truncated,
        )
        for structure in table.foreground
    )


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
            both = first.volume_ml > 0 and second.volume_ml > 0
            ratios.append(
                VolumeRatio(
                    f"{right}/{left}",
                    first.volume_ml / second.volume_ml if both else None,
                    first.truncated or second.truncated,
                )
            )
    return tuple(ratios)


def _find_truncated(labels: NDArray[np.uint8]) -> set[int]:
    """Return the labels that have a voxel in an outermost layer."""
    layers = [labels.take(end, axis=axis) for axis in range(labels.ndim) for end in (0, -1)]
    return {int(value) for layer in layers for value in np.unique(layer)}
