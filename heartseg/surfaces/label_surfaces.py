"""The surfaces of a heart: one of each structure, and one of the blood in all of them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.label_tables import blood_structures
from heartseg.labels import LabelTable
from heartseg.surfaces.isosurface import Mesh
from heartseg.surfaces.smoothing import (
    LEAST_SIGMA,
    Fit,
    Group,
    SmoothLabels,
    fit_volumes,
    smooth_labels,
)

BLOOD_POOL = "blood_pool"
"""Key of the surface around all structures that are filled with blood."""
LARGEST_ERROR = 0.01
"""Part of a volume by which a surface may miss it before less smoothing is tried."""
LEAST_FACES, MOST_FACES = 20_000, 8_000_000
"""Sides of voxels between labels: fewer are little work, and none of the 57 hearts of HVSMR-2.0 has
more than 382,336."""
MOST_FACES_PER_VOXEL = 2.5
"""Those hearts have 0.16 to 0.41, a sheet of a voxel's thickness has 2, and noise 3 to 6."""
COARSER = 1.03
"""By how much the steps of the grid grow at least while there are too many triangles."""


@dataclass(frozen=True)
class FittedHeart:
    """A label map as smooth fields, and the surface of each structure.

    Attributes:
        smooth: The smoothed label map.
        weights: The weights of the structures that bring their volumes back.
        meshes: The surfaces by the keys of their structures, in the coordinates of the affine.
        values: The labels of these structures by their keys.
        blood: The labels of those that are filled with blood.
    """

    smooth: SmoothLabels
    weights: Mapping[int, float]
    meshes: Mapping[str, Mesh]
    values: Mapping[str, int]
    blood: frozenset[int]

    def field(self, key: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return samples that are positive inside a structure, and their affine."""
        return self.smooth.margin(frozenset({self.values[key]}), self.weights)


def describe_scatter(labels: NDArray[np.uint8]) -> str | None:
    """Say what keeps a label map from having smooth surfaces, such as noise; None: nothing.

    Fitting surfaces to scattered voxels would take minutes to hours, and mean nothing.

    Args:
        labels: ``(X, Y, Z)`` label map.
    """
    voxels, faces = int(np.count_nonzero(labels)), 0
    for axis in range(labels.ndim):
        lower = np.moveaxis(labels, axis, 0)[:-1]
        upper = np.moveaxis(labels, axis, 0)[1:]
        border = lower != upper
        # Each of two structures that touch has a surface there.
        faces += int(np.count_nonzero(border & (lower > 0)))
        faces += int(np.count_nonzero(border & (upper > 0)))
    if faces <= LEAST_FACES or (faces <= MOST_FACES and faces <= MOST_FACES_PER_VOXEL * voxels):
        return None
    return (
        f"the labels are scattered as in noise: {faces / voxels:.1f} of the 6 sides of a voxel "
        f"border on another label, {faces:,} in all; expected at most "
        f"{MOST_FACES_PER_VOXEL:g}, and {MOST_FACES:,} in all"
    )


def build_surfaces(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    table: LabelTable,
    *,
    smooth_mm: float | None = None,
    triangles: int | None = None,
    keys: Collection[str] | None = None,
) -> dict[str, Mesh]:
    """Build a closed surface of each structure and one of the blood pool.

    A surface encloses the volume of the structure's voxels, to 0.2 %. Neighbours share their
    border and do not overlap.

    Args:
        labels: ``(X, Y, Z)`` label map; outside the array there is background.
        affine: ``(4, 4)`` from voxel indices to millimetres, axes right, anterior, superior.
        table: The structures.
        smooth_mm: Standard deviation of the smoothing; None: one voxel along each axis.
        triangles: Most triangles of a surface; None: as many as the voxels give.
        keys: Structures that are wanted, and that make up the blood pool; None: all.

    Returns:
        Surfaces in the coordinates of the affine, by the keys of the structures, and
        ``blood_pool``, which is no muscle. What has no voxel is left out.
    """
    heart = fit_heart(labels, affine, table, smooth_mm=smooth_mm, triangles=triangles, keys=keys)
    if heart is None:
        return {}
    return add_blood_pool(heart, labels, affine, smooth_mm=smooth_mm, triangles=triangles)


def fit_heart(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    table: LabelTable,
    *,
    smooth_mm: float | None = None,
    triangles: int | None = None,
    step_mm: float | None = None,
    keys: Collection[str] | None = None,
) -> FittedHeart | None:
    """Smooth a label map, and find the surface of each structure; see ``build_surfaces``.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.
        smooth_mm: Standard deviation of the smoothing; None: one voxel along each axis.
        triangles: Most triangles of a surface; None: as many as the voxels give.
        step_mm: Step of the finest grid that is tried, along every axis; None: the voxels.
        keys: Structures that are wanted; None: all.

    Returns:
        What was found; None if no wanted structure has a voxel.
    """
    values = {
        structure.key: structure.value
        for structure in table.foreground
        if (keys is None or structure.key in keys) and (labels == structure.value).any()
    }
    if not values:
        return None
    groups = {key: frozenset({value}) for key, value in values.items()}
    smooth, fit = fit_labels(
        labels,
        affine,
        list(groups.values()),
        smooth_mm=smooth_mm,
        triangles=triangles,
        step_mm=step_mm,
    )
    meshes = {key: fit.meshes[group] for key, group in groups.items()}
    blood = frozenset(s.value for s in blood_structures(table) if s.key in values)
    return FittedHeart(smooth, fit.weights, meshes, values, blood)


def add_blood_pool(
    heart: FittedHeart,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    *,
    smooth_mm: float | None = None,
    triangles: int | None = None,
) -> dict[str, Mesh]:
    """Return the surfaces of a heart and, if it has blood, that of its blood pool.

    See ``build_surfaces``.
    """
    pool = heart.blood
    if not pool:
        return dict(heart.meshes)
    around = heart.smooth.extract(pool, heart.weights)
    wanted = float(np.isin(labels, list(pool)).sum()) * _voxel_mm3(affine)
    if _is_too_fine(around, triangles) or abs(around.volume_mm3 / wanted - 1) > LARGEST_ERROR:
        _, alone = fit_labels(labels, affine, [pool], smooth_mm=smooth_mm, triangles=triangles)
        around = alone.meshes[pool]
    return {**heart.meshes, BLOOD_POOL: around}


def estimate_area_mm2(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Estimate the area of a mask's surface from the faces of its voxels.

    Args:
        mask: ``(X, Y, Z)`` mask; faces at the border of the array are not counted.
        affine: ``(4, 4)`` from voxel indices to millimetres.
    """
    volume_mm3 = _voxel_mm3(affine)
    heights_mm = 1 / np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1)
    faces = [
        np.count_nonzero(np.diff(mask, axis=axis)) * volume_mm3 / heights_mm[axis]
        for axis in range(3)
    ]
    # Faces of voxels have one and a half times the area of a surface that lies in any direction.
    return float(sum(faces)) / 1.5


def fit_labels(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    groups: Sequence[Group],
    *,
    smooth_mm: float | None = None,
    triangles: int | None = None,
    step_mm: float | None = None,
) -> tuple[SmoothLabels, Fit]:
    """Smooth a label map on a grid that is coarse enough, and bring the volumes back.

    One grid serves all surfaces, since only then neighbours share their border. Where something is
    too small for the smoothing to leave its volume, half of it is tried.

    Args:
        labels: ``(X, Y, Z)`` label map that is not empty.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        groups: Structures that each wanted surface encloses; every other one stays by itself.
        smooth_mm: Standard deviation of the smoothing; None: one voxel along each axis.
        triangles: Most triangles of any wanted surface; None: no limit.
        step_mm: Step of the finest grid that is tried, along every axis; None: the voxels.
    """
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    sigma = np.ones(3) if smooth_mm is None else smooth_mm / spacing_mm
    volumes = _measure_groups(labels, affine, groups)
    steps = np.ones(3) if step_mm is None else step_mm / spacing_mm
    best: tuple[SmoothLabels, Fit] | None = None
    least_error = math.inf
    while True:
        smooth = smooth_labels(labels, affine, sigma_voxels=sigma, steps_voxels=steps)
        fit = _fit_within(smooth, volumes, groups, triangles)
        if isinstance(fit, int):
            finest_mm = float((steps * spacing_mm).min())
            coarser_mm = finest_mm * max(math.sqrt(fit / (triangles or fit)), COARSER)
            steps = np.maximum(coarser_mm / spacing_mm, steps)
            continue
        error = max(
            abs(fit.meshes[group].volume_mm3 / wanted - 1) for group, wanted in volumes.items()
        )
        if best is None or error < least_error:
            best, least_error = (smooth, fit), error
        if least_error <= LARGEST_ERROR or (sigma <= LEAST_SIGMA).all():
            return best
        sigma = sigma / 2


def _fit_within(
    smooth: SmoothLabels,
    volumes_mm3: Mapping[Group, float],
    groups: Sequence[Group],
    triangles: int | None,
) -> Fit | int:
    """Fit the volumes, or return the number of triangles of the largest surface if too large."""
    # The weights change the number of triangles by little: a first count costs less.
    equal = {entry.value: 1.0 for entry in smooth.memberships}
    largest = max((smooth.extract(group, equal) for group in groups), key=_count)
    if _is_too_fine(largest, triangles):
        return _count(largest)
    fit = fit_volumes(smooth, volumes_mm3)
    largest = max((fit.meshes[group] for group in groups), key=_count)
    return _count(largest) if _is_too_fine(largest, triangles) else fit


def _count(mesh: Mesh) -> int:
    return len(mesh.triangles)


def _is_too_fine(mesh: Mesh, triangles: int | None) -> bool:
    return triangles is not None and _count(mesh) > triangles


def _voxel_mm3(affine: NDArray[np.float64]) -> float:
    return abs(float(np.linalg.det(affine[:3, :3])))


def _measure_groups(
    labels: NDArray[np.uint8], affine: NDArray[np.float64], groups: Sequence[Group]
) -> dict[Group, float]:
    """Return the volume in mm3 of each group, and of each structure that is in none."""
    counts = np.bincount(labels.ravel())
    taken = frozenset().union(*groups)
    others = [
        frozenset({value})
        for value in range(1, len(counts))
        if counts[value] and value not in taken
    ]
    voxel_mm3 = _voxel_mm3(affine)
    return {group: float(counts[list(group)].sum()) * voxel_mm3 for group in (*groups, *others)}
