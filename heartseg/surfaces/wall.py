"""The hollow model that is printed: a wall around the blood, open where vessels are cut."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import manifold3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from heartseg.label_tables import blood_structures
from heartseg.labels import LabelTable
from heartseg.surfaces.isosurface import Mesh, extract_mesh
from heartseg.surfaces.label_surfaces import COARSER, estimate_area_mm2, fit_labels
from heartseg.surfaces.offset import build_offset, finest_step_mm
from heartseg.surfaces.proximity import SurfaceIndex
from heartseg.surfaces.smoothing import Group

TOUCHING = np.ones((3, 3, 3), bool)
MAX_TRIANGLES = 1_500_000
"""Of a model unless another number is wanted: 75 MB as STL."""
TRIANGLES_PER_STEP = 5.0
"""About how many triangles a wall has per square of the step and area of the blood pool."""
CUT_SIGMA = 1.5
"""Voxels by which the plane of a cut is smoothed."""
TOLERANCE_MM = 0.05
"""What the wall may be too thick or too thin: what printing shops keep."""
OUTSIDE, INSIDE = 0, 1
"""Whose surface a triangle of the wall is of, by the order in which bodies are subtracted."""
LEAST_PART = 0.01
"""Parts with less of the wall's material are debris around stray voxels."""


@dataclass(frozen=True)
class Thickness:
    """How thick a wall came out.

    Attributes:
        minimum_mm: The thinnest place: the distance from the outside to the nearest inside.
        median_mm: Half of the outside, by area, has at most this distance.
        maximum_mm: The thickest place, seen from the outside.
        within_part: Part of the outside, by area, where the distance is within 0.05 mm of the
            thickness that was wanted.
        merged_part: Part of the inside, by area, over which the wall is thicker than wanted since
            the walls of neighbouring chambers meet.
    """

    minimum_mm: float
    median_mm: float
    maximum_mm: float
    within_part: float
    merged_part: float


@dataclass(frozen=True)
class Wall:
    """A hollow model.

    Attributes:
        mesh: Its closed surface: the outside, the inside (the endocardium) and the cuts.
        thickness: Its measured thickness.
        opened: Keys of the structures that are cut open.
    """

    mesh: Mesh
    thickness: Thickness
    opened: tuple[str, ...]


def build_wall(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    table: LabelTable,
    *,
    wall_mm: float,
    smooth_mm: float | None = None,
    keys: Collection[str] | None = None,
    zones: NDArray[np.uint8] | None = None,
    triangles: int = MAX_TRIANGLES,
) -> Wall | None:
    """Build a wall of even thickness around the blood pool.

    The inside is the surface of the blood pool, and the outside is everywhere as far from it as the
    wall is thick. Where walls of neighbouring chambers meet, the gap between them is filled. A
    vessel that reaches the border of the label map is open there, and so is one that reaches its
    end zone: the model ends where the zone begins.

    Args:
        labels: ``(X, Y, Z)`` label map.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        table: The structures.
        wall_mm: Thickness of the wall.
        smooth_mm: Standard deviation of the smoothing; None: one voxel along each axis.
        keys: Structures that make up the blood pool, muscle left out; None: all.
        zones: ``(X, Y, Z)`` end zones: a voxel has the label of the structure that may end there.
        triangles: Most triangles of the model.

    Returns:
        The wall; None if nothing is left of it: there is no blood, or all of it is cut away.
    """
    values = [
        structure.value
        for structure in blood_structures(table)
        if (keys is None or structure.key in keys) and (labels == structure.value).any()
    ]
    if not values:
        return None
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    # What is cut goes on beyond the border for a while, so that it is as wide at the cut as before.
    margin = np.ceil((2 * wall_mm + 2 * spacing_mm) / spacing_mm).astype(int)
    padding = [(int(m), int(m)) for m in margin]
    extended = np.pad(labels, padding, mode="edge")
    corner = affine.copy()
    corner[:3, 3] -= affine[:3, :3] @ margin

    blood = np.where(np.isin(extended, values), extended, 0).astype(np.uint8)
    beyond = np.pad(np.zeros(labels.shape, bool), padding, constant_values=True)
    ends = np.pad(np.zeros_like(labels) if zones is None else zones, padding)
    cut, opened = find_cut(blood, beyond, ends, spacing_mm)
    away = _mesh_of_cut(cut, corner, margin)
    opened_keys = tuple(s.key for s in table.foreground if s.value in opened)

    step_mm = math.sqrt(TRIANGLES_PER_STEP * estimate_area_mm2(blood > 0, affine) / triangles)
    while True:
        built = _build(
            extended,
            corner,
            frozenset(values),
            away=away,
            wall_mm=wall_mm,
            smooth_mm=smooth_mm,
            step_mm=step_mm,
        )
        if built is None:
            return None
        mesh, thickness = built
        if len(mesh.triangles) <= triangles:
            return Wall(mesh, thickness, opened_keys)
        finest_mm = max(step_mm, min(float(spacing_mm.min()), finest_step_mm(wall_mm)))
        step_mm = finest_mm * max(math.sqrt(len(mesh.triangles) / triangles), COARSER)


def _build(
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    pool: Group,
    *,
    away: Mesh,
    wall_mm: float,
    smooth_mm: float | None,
    step_mm: float,
) -> tuple[Mesh, Thickness] | None:
    """Build the wall on grids whose steps are not smaller than a wanted one."""
    finest_mm = float(np.linalg.norm(affine[:3, :3], axis=0).min())
    smooth, fit = fit_labels(
        labels, affine, [pool], smooth_mm=smooth_mm, step_mm=max(step_mm, finest_mm)
    )
    index = SurfaceIndex(fit.meshes[pool])
    margin, grid = smooth.margin(pool, fit.weights)
    outside = build_offset(margin, grid, index, wall_mm, step_mm=step_mm)
    mesh, sources = _subtract(outside, [fit.meshes[pool], away])
    if not ((sources == OUTSIDE).any() and (sources == INSIDE).any()):
        return None
    return mesh, _measure(mesh, sources, index, wall_mm)


def find_cut(
    blood: NDArray[np.uint8],
    beyond: NDArray[np.bool_],
    zones: NDArray[np.uint8],
    spacing_mm: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], set[int]]:
    """Find what is cut away to open the vessels.

    A voxel belongs to the blood voxel that is nearest to it, and goes if that one goes: what lies
    beyond the border, and what touches its own end zone. So the wall goes with its vessel, and no
    neighbour loses any.

    Args:
        blood: ``(X, Y, Z)`` labels of the blood pool, 0 elsewhere.
        beyond: ``(X, Y, Z)`` what lies beyond the border of the scan.
        zones: ``(X, Y, Z)`` end zones, by the labels of their structures.
        spacing_mm: Distance of neighbouring voxels along each axis.

    Returns:
        ``(X, Y, Z)``, True where everything goes, and the labels of the structures that are opened.
    """
    ending = beyond.copy()
    for value in np.unique(zones[zones > 0]):
        # Smoothing rounds a vessel where it ends: the last layer before the zone goes too.
        ending |= ndimage.binary_dilation(zones == value, TOUCHING) & (blood == value)
    nearest = ndimage.distance_transform_edt(
        blood == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    opened = {int(value) for value in np.unique(blood[(blood > 0) & ending])}
    return ending[tuple(nearest)], opened


def _mesh_of_cut(
    cut: NDArray[np.bool_], affine: NDArray[np.float64], margin: NDArray[np.int64]
) -> Mesh:
    """Return the surface of what is cut away; it goes on beyond the array for a margin."""
    grown = np.pad(cut, [(int(m), int(m)) for m in margin], mode="edge").astype(np.float32)
    smooth = ndimage.gaussian_filter(grown, CUT_SIGMA, mode="nearest")
    corner = affine.copy()
    corner[:3, 3] -= affine[:3, :3] @ margin
    return extract_mesh(2 * smooth - 1, corner)


def _subtract(mesh: Mesh, others: Sequence[Mesh]) -> tuple[Mesh, NDArray[np.int64]]:
    """Cut bodies out of another one, and drop the debris.

    Returns:
        What is left, and for each of its ``(T,)`` triangles whose surface it is of: 0 the first
        body, 1 the first that was cut out, and so on.
    """
    bodies = [_as_manifold(body).as_original() for body in (mesh, *others) if len(body.triangles)]
    result = manifold3d.Manifold.batch_boolean(bodies, manifold3d.OpType.Subtract).to_mesh64()
    vertices = np.asarray(result.vert_properties, np.float64)[:, :3]
    triangles = np.asarray(result.tri_verts, np.int32)
    places = {body.original_id(): place for place, body in enumerate(bodies)}
    counts = np.diff(result.run_index) // 3
    sources = np.repeat([places[run] for run in result.run_original_id], counts.astype(int))
    if not len(triangles):
        return Mesh(vertices, triangles), sources
    kept = _is_no_debris(vertices, triangles)
    used, renumbered = np.unique(triangles[kept], return_inverse=True)
    left = Mesh(vertices[used], renumbered.reshape(-1, 3).astype(np.int32))
    return left, sources[kept]


def _is_no_debris(vertices: NDArray[np.float64], triangles: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which triangles are of parts, or hollows of parts, that are not tiny."""
    links = sparse.coo_array(
        (np.ones(2 * len(triangles)), (triangles[:, [0, 0]].ravel(), triangles[:, 1:].ravel())),
        shape=(len(vertices), len(vertices)),
    )
    _, part_of_vertex = sparse.csgraph.connected_components(links, directed=False)
    parts = part_of_vertex[triangles[:, 0]]
    first, second, third = np.moveaxis(vertices[triangles] - vertices.mean(axis=0), 1, 0)
    volumes = np.abs(np.bincount(parts, np.einsum("ij,ij->i", first, np.cross(second, third))))
    return np.asarray(volumes[parts] >= LEAST_PART * volumes.max())


def _as_manifold(mesh: Mesh) -> manifold3d.Manifold:
    # Copies: arrays that may not be written to are refused.
    vertices = np.array(mesh.vertices_mm, np.float64, order="C")
    triangles = np.array(mesh.triangles, np.uint64, order="C")
    return manifold3d.Manifold(manifold3d.Mesh64(vertices, triangles))


def _measure(
    mesh: Mesh, sources: NDArray[np.int64], inside: SurfaceIndex, wall_mm: float
) -> Thickness:
    """Measure how far the outside of a wall is from its inside, at corners and centres."""
    outer = Mesh(mesh.vertices_mm, mesh.triangles[sources == OUTSIDE])
    centers, areas = _centers(outer)
    at_centers = inside.distances_mm(centers)
    at_corners = inside.distances_mm(outer.vertices_mm[np.unique(outer.triangles)])
    order = np.argsort(at_centers)
    half = np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2)
    inner_centers, inner_areas = _centers(Mesh(mesh.vertices_mm, mesh.triangles[sources == INSIDE]))
    low, _ = SurfaceIndex(outer).bounds_mm(inner_centers)
    merged = low > wall_mm + TOLERANCE_MM
    return Thickness(
        float(min(at_centers.min(), at_corners.min())),
        float(at_centers[order[half]]),
        float(max(at_centers.max(), at_corners.max())),
        float(areas[np.abs(at_centers - wall_mm) <= TOLERANCE_MM].sum() / areas.sum()),
        float(inner_areas[merged].sum() / inner_areas.sum()),
    )


def _centers(mesh: Mesh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the centres and areas of triangles."""
    corners = mesh.vertices_mm[mesh.triangles]
    first, second, third = np.moveaxis(corners, 1, 0)
    areas = np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2
    return corners.mean(axis=1), areas
