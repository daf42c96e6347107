"""Label maps as smooth fields, in which structures keep their volumes and share their borders."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartseg.surfaces.isosurface import Mesh, extract_mesh

REACH = 4.0
"""Standard deviations after which a Gaussian ends."""
LEAST_SIGMA = 0.4
"""Voxels; with less the surface of voxels that touch at an edge only would touch itself there."""
LEAST_SIGMA_PER_STEP = 0.6
"""Coarser samples need more smoothing: between them nothing may be hidden."""
RESTORATIONS = 2
"""How often what smoothing took from a structure is given back; after that little is missing."""
VOLUME_TOLERANCE = 0.002
"""Part of a volume that may be missing or too much."""
MAX_SWEEPS = 40
LARGEST_CHANGE = 0.7
"""Of the logarithm of a weight in one sweep."""
SLOPE = 0.63
"""How far a flat border moves, in standard deviations, when the logarithm of a weight grows by 1:
the Gaussian integral is 1/2 there and grows by 0.4 per standard deviation, on both sides."""

Box = tuple[slice, slice, slice]
Group = frozenset[int]
"""Labels of the structures that one surface encloses."""


@dataclass(frozen=True)
class Membership:
    """How far each place belongs to a structure.

    Attributes:
        value: Label of the structure.
        box: The part of the grid outside which it is 0.
        values: Samples in the box, 0 to 1.
    """

    value: int
    box: Box
    values: NDArray[np.float32]


@dataclass(frozen=True)
class SmoothLabels:
    """Memberships of all structures and of the background on one grid; their sum is 1.

    Attributes:
        background: ``(X, Y, Z)`` membership of the background.
        memberships: Those of the structures.
        affine: ``(4, 4)`` from the indices of the grid to millimetres.
        sigma_mm: Mean standard deviation of the smoothing along the axes.
    """

    background: NDArray[np.float32]
    memberships: tuple[Membership, ...]
    affine: NDArray[np.float64]
    sigma_mm: float

    def extract(self, inside: Group, weights: Mapping[int, float]) -> Mesh:
        """Extract the surface around structures; see ``margin``."""
        return extract_mesh(*self.margin(inside, weights))

    def margin(
        self, inside: Group, weights: Mapping[int, float]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Compute by how much structures win over all others and the background.

        A place belongs to the structure whose weighted membership is the largest. Two structures
        that touch have the same border, since one's margin is the other's with the sign changed.

        Args:
            inside: Labels of the structures.
            weights: Weight of every structure; that of the background is 1.

        Returns:
            Samples in the box that holds the structures, -1 to 1 and positive inside, and the
            affine from their indices to millimetres.
        """
        boxes = [entry.box for entry in self.memberships if entry.value in inside]
        if not boxes:
            return np.zeros((0, 0, 0), np.float32), self.affine
        box = _enclose(boxes)
        within, without = np.zeros_like(self.background[box]), self.background[box].copy()
        for entry in self.memberships:
            side = within if entry.value in inside else without
            here, there = _overlap(box, entry.box)
            weighted = entry.values[there] * np.float32(weights[entry.value])
            np.maximum(side[here], weighted, out=side[here])
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [part.start for part in box]
        return (within - without) / (within + without), affine


@dataclass(frozen=True)
class Fit:
    """Surfaces that enclose wanted volumes.

    Attributes:
        meshes: The surface of each group of structures.
        weights: The weight of each structure that made them.
    """

    meshes: dict[Group, Mesh]
    weights: dict[int, float]


def smooth_labels(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    *,
    sigma_voxels: NDArray[np.float64],
    steps_voxels: NDArray[np.float64],
) -> SmoothLabels:
    """Smooth the indicator of each label with a Gaussian.

    Where the centre of a voxel would change sides, as on thin bridges and sheets, what is missing
    there is smoothed and added.

    Args:
        labels: ``(X, Y, Z)`` label map with at least one voxel that is not 0; background lies
            around the array.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        sigma_voxels: ``(3,)`` standard deviations along the axes; raised to what the grid needs.
        steps_voxels: ``(3,)`` distances of the samples along the axes.
    """
    sigma = np.maximum(sigma_voxels, np.maximum(LEAST_SIGMA, LEAST_SIGMA_PER_STEP * steps_voxels))
    margin = np.ceil(REACH * sigma).astype(int)
    found = ndimage.find_objects(labels)
    ends = np.array([[(p.start, p.stop) for p in box] for box in found if box is not None])
    low, high = ends[..., 0].min(axis=0) - margin, ends[..., 1].max(axis=0) + margin
    cropped = _crop(labels, low, high)

    def blur(indicator: NDArray[np.float32]) -> NDArray[np.float32]:
        blurred: NDArray[np.float32] = ndimage.gaussian_filter(
            indicator, sigma, mode="constant", truncate=REACH
        )
        return blurred

    memberships = []
    for value, box in enumerate(found, start=1):
        if box is not None:
            x, y, z = (
                slice(int(part.start - first - m), int(part.stop - first + m))
                for part, first, m in zip(box, low, margin, strict=True)
            )
            mask = cropped[x, y, z] == value
            memberships.append(Membership(value, (x, y, z), blur(mask.astype(np.float32))))
    for _ in range(RESTORATIONS):
        winners = _find_winners(memberships, cropped.shape)
        for entry in memberships:
            here = entry.box
            lost = (cropped[here] == entry.value).astype(np.float32) - (
                winners[here] == entry.value
            )
            np.maximum(entry.values + blur(lost), 0, out=entry.values)
    corner = affine.copy()
    corner[:3, 3] += affine[:3, :3] @ low
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    sigma_mm = float((sigma * spacing_mm).mean())
    if (steps_voxels != 1).any():
        memberships, shape = _resample(memberships, cropped.shape, steps_voxels)
        corner[:3, :3] *= steps_voxels
    else:
        shape = cropped.shape
    return SmoothLabels(_complement(memberships, shape), tuple(memberships), corner, sigma_mm)


def _crop(
    labels: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Cut a box out of a label map; where it reaches beyond, there is background."""
    inside = zip(np.maximum(low, 0), np.maximum(high, 0), strict=True)
    missing = zip(np.maximum(-low, 0), np.maximum(high - labels.shape, 0), strict=True)
    return np.pad(labels[tuple(slice(*ends) for ends in inside)], list(missing))


def _complement(memberships: Sequence[Membership], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the membership of the background."""
    background = np.ones(shape, np.float32)
    for entry in memberships:
        background[entry.box] -= entry.values
    # Rounding errors must not make a place belong to nobody.
    return np.maximum(background, 1e-6)


def _find_winners(memberships: Sequence[Membership], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the label map of the largest memberships."""
    largest, winners = _complement(memberships, shape), np.zeros(shape, np.uint8)
    for entry in memberships:
        best, winner = largest[entry.box], winners[entry.box]
        winner[entry.values > best] = entry.value
        np.maximum(best, entry.values, out=best)
    return winners


def _resample(
    memberships: Sequence[Membership], shape: tuple[int, ...], steps: NDArray[np.float64]
) -> tuple[list[Membership], tuple[int, ...]]:
    """Bring memberships onto a grid of other steps that begins at the same corner.

    Returns:
        The memberships, and the shape of the grid.
    """
    resampled = []
    for entry in memberships:
        offset = np.array([part.start for part in entry.box])
        first = np.ceil(offset / steps).astype(int)
        last = np.floor((offset + np.array(entry.values.shape) - 1) / steps).astype(int)
        x, y, z = (slice(int(i), int(j) + 1) for i, j in zip(first, last, strict=True))
        values = ndimage.affine_transform(
            entry.values,
            steps,
            first * steps - offset,
            output_shape=tuple(last - first + 1),
            order=1,
            mode="constant",
        )
        resampled.append(Membership(entry.value, (x, y, z), values))
    return resampled, tuple(int(side) for side in np.floor((np.array(shape) - 1) / steps) + 1)


def fit_volumes(smooth: SmoothLabels, volumes_mm3: Mapping[Group, float]) -> Fit:
    """Extract surfaces so that each encloses a given volume.

    Smoothing shrinks what is round. Each group of structures gets the weight in the contest for
    the places along its border that brings its volume back.

    Args:
        smooth: The smoothed label map.
        volumes_mm3: Wanted volume of each group; together the groups hold every structure once.

    References:
        Jacobs, Merkurjev and Esedoglu (2018). J Comput Phys 354.
        https://doi.org/10.1016/j.jcp.2017.10.036
    """
    logs = dict.fromkeys(volumes_mm3, 0.0)
    # Between what is known to be too little and too much.
    bounds = {group: [-math.inf, math.inf] for group in volumes_mm3}
    for _ in range(MAX_SWEEPS):
        weights = {value: math.exp(log) for group, log in logs.items() for value in group}
        meshes = {group: smooth.extract(group, weights) for group in volumes_mm3}
        wrong = [
            group
            for group, wanted in volumes_mm3.items()
            if abs(meshes[group].volume_mm3 - wanted) > VOLUME_TOLERANCE * wanted
        ]
        if not wrong:
            break
        for group in wrong:
            missing = volumes_mm3[group] - meshes[group].volume_mm3
            bounds[group][0 if missing > 0 else 1] = logs[group]
            reach = SLOPE * smooth.sigma_mm * meshes[group].area_mm2
            change = missing / max(reach, volumes_mm3[group] / 10)
            change = float(np.clip(change, -LARGEST_CHANGE, LARGEST_CHANGE))
            logs[group] = _step(logs[group], change, bounds[group])
    return Fit(meshes, weights)


def _step(start: float, change: float, bounds: list[float]) -> float:
    """Return the next guess, halfway to a bound that the change would pass."""
    low, high = bounds
    aim = start + change
    if low < aim < high:
        return aim
    # Neighbours move too: a bound that has become wrong gives way.
    bound = low if change < 0 else high
    bounds[0 if change < 0 else 1] = bound + change
    return (start + bound) / 2


def _enclose(boxes: Collection[Box]) -> Box:
    """Return the smallest box that holds boxes."""
    x, y, z = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*boxes, strict=True)
    )
    return x, y, z


def _overlap(box: Box, other: Box) -> tuple[Box, Box]:
    """Return where two boxes overlap, as seen from the corner of each; empty if they do not."""
    shared = [
        (max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
        for a, b in zip(box, other, strict=True)
    ]
    here, there = (
        tuple(slice(i - a.start, j - a.start) for (i, j), a in zip(shared, which, strict=True))
        for which in (box, other)
    )
    return (here[0], here[1], here[2]), (there[0], there[1], there[2])
