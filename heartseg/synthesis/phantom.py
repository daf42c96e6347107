"""Phantom hearts: synthetic volumes that resemble cropped cardiac MR, made from a seed."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartseg.synthesis.phantom_anatomy import LV, Anatomy, build_anatomy
from heartseg.synthesis.phantom_appearance import render_image
from heartseg.synthesis.phantom_plan import Category, Heart, Missing
from heartseg.synthesis.shapes import Point, build_grid

MIN_SIZE = 32
"""Smallest longest side; on a coarser grid the venae cavae would be thinner than two voxels."""
_CROP_MM = (102.0, 122.0, 114.0)
_BEND_MM = 4.5
_MYOCARDIUM_MM = 11.0
"""Muscle that lies nearer to the left ventricle is its own; the septum counts as such."""
_GROUP = 8
"""Number of consecutive patients of whom one lacks a structure."""
_FIRST_INVERTED_GROUP = 2
"""First group with inverted ventricles: a small cohort would have too few of them to learn from."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic patient, with array axes toward posterior, inferior and right.

    Attributes:
        image: ``(X, Y, Z)`` float64 intensities, about -0.03 to 2.8.
        labels: ``(X, Y, Z)`` int16 labels of HVSMR-2.0, 0 to 8.
        endpoints: ``(X, Y, Z)`` int16; value v marks where the end of structure v is ambiguous.
        myocardium: ``(X, Y, Z)`` bool, the muscle of the left ventricle, which HVSMR-2.0 has no
            label for.
        affine: ``(4, 4)`` from voxel indices to millimetres, axes right, anterior, superior.
        category: ``mild``, ``moderate`` or ``severe``.
        missing: Key of the structure that the heart lacks, if any.
        age_years: Age of the patient, which sets the size of the heart.
    """

    image: NDArray[np.float64]
    labels: NDArray[np.int16]
    endpoints: NDArray[np.int16]
    myocardium: NDArray[np.bool_]
    affine: NDArray[np.float64]
    category: Category
    missing: Missing | None
    age_years: int


def make_phantom(seed: int, patient: int, *, size: int) -> Phantom:
    """Make one patient of a synthetic cohort.

    The patient depends on the arguments alone, not on the other patients of the cohort.

    Args:
        seed: Seed of the cohort, 0 or more.
        patient: Number of the patient in the cohort, from 0.
        size: Voxels along the longest axis, at least 32.

    Returns:
        The patient. One in eight lacks the right ventricle or the right atrium.

    Raises:
        ValueError: If an argument is out of range.
    """
    if seed < 0 or patient < 0 or size < MIN_SIZE:
        raise ValueError(
            f"expected seed >= 0, patient >= 0 and size >= {MIN_SIZE}, found seed {seed}, "
            f"patient {patient}, size {size}"
        )
    # Independent streams, so that a change of the appearance does not change the shapes.
    shape_rng, bend_rng, appearance_rng = (
        np.random.default_rng([seed, patient, stream]) for stream in range(3)
    )
    heart = _draw_heart(seed, patient, shape_rng)
    age_years = int(min(54, shape_rng.gamma(1.6, 9.0)))
    scale = (0.55 + 0.45 * min(age_years, 16) / 16) * shape_rng.uniform(0.95, 1.05)
    shape, spacing_mm = _draw_grid(size, scale, shape_rng)
    # The anatomy is defined in millimetres of a nominal adult.
    nominal_mm = (spacing_mm[0] / scale, spacing_mm[1] / scale, spacing_mm[2] / scale)
    grid = build_grid(shape, nominal_mm, bend_rng, bend_mm=_BEND_MM)
    anatomy = build_anatomy(grid, heart)
    labels, endpoints = _paint_labels(anatomy)
    return Phantom(
        image=render_image(
            grid, anatomy, appearance_rng, voxel_mm=math.prod(nominal_mm) ** (1 / 3)
        ),
        labels=labels,
        endpoints=endpoints,
        myocardium=_find_myocardium(anatomy, labels),
        affine=_pir_affine(shape, spacing_mm, shape_rng),
        category=heart.category,
        missing=heart.missing,
        age_years=age_years,
    )


def _draw_heart(seed: int, patient: int, rng: np.random.Generator) -> Heart:
    group, position = divmod(patient, _GROUP)
    group_rng = np.random.default_rng([seed, group, _GROUP])
    # The first three patients are complete, so that the smallest cohorts have every structure.
    lacking, inverted = group_rng.choice(np.arange(3, _GROUP), 2, replace=False)
    missing: Missing | None = None
    if position == lacking:
        missing = "RV" if (seed + group) % 2 == 0 else "RA"
    is_inverted = position == inverted and group >= _FIRST_INVERTED_GROUP and group % 2 == 0
    drawn = rng.choice(3, p=[0.35, 0.35, 0.3])
    heart_seed = int(rng.integers(2**32))
    category: Category = "severe" if missing or is_inverted else _CATEGORIES[drawn]
    return Heart(category, missing, bool(is_inverted), heart_seed)


_CATEGORIES: tuple[Category, Category, Category] = ("mild", "moderate", "severe")


def _draw_grid(
    size: int, scale: float, rng: np.random.Generator
) -> tuple[tuple[int, int, int], Point]:
    """Draw a grid of three distinct lengths, with another spacing across slices than in plane."""
    posterior, inferior, right = (edge * scale * rng.uniform(0.98, 1.06) for edge in _CROP_MM)
    if rng.random() < 0.6:
        in_plane = inferior / size
        count = (round(posterior / in_plane), size, round(size * rng.uniform(0.68, 0.78)))
    else:
        in_plane = inferior / round(size * rng.uniform(0.84, 0.92))
        count = (round(posterior / in_plane), round(inferior / in_plane), size)
    shape = _make_distinct(count)
    return shape, (in_plane, in_plane, right / shape[2])


def _make_distinct(count: tuple[int, int, int]) -> tuple[int, int, int]:
    """Shorten the first axis until its length differs from the others."""
    first, second, third = count
    while first in (second, third):
        first -= 1
    return first, second, third


def _pir_affine(
    shape: tuple[int, int, int], spacing_mm: Point, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return an affine with axes toward posterior, inferior and right, and a random centre."""
    axes = np.zeros((3, 3))
    axes[1, 0], axes[2, 1], axes[0, 2] = -spacing_mm[0], -spacing_mm[1], spacing_mm[2]
    center = rng.uniform(-20, 20, 3)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = center - axes @ ((np.array(shape) - 1) / 2)
    return affine


def _paint_labels(anatomy: Anatomy) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    labels = np.zeros(anatomy.walls.shape, np.int16)
    for label, distance in anatomy.chambers.items():
        labels[distance < 0] = label
    endpoints = np.zeros_like(labels)
    for label, zone in anatomy.zones.items():
        # A zone covers its own structure and background, never another structure.
        endpoints[zone & ((labels == label) | (labels == 0))] = label
    return labels, endpoints


def _find_myocardium(anatomy: Anatomy, labels: NDArray[np.int16]) -> NDArray[np.bool_]:
    muscle = (anatomy.ventricles < 0) & (anatomy.beyond >= 0) & (labels == 0)
    return np.asarray(muscle & (anatomy.chambers[LV] < _MYOCARDIUM_MM))
