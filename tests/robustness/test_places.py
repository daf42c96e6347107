"""Places in the patient survive the way onto slices and back, whatever the scan's geometry."""

from dataclasses import replace
from functools import partial

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_scan, rotate, write_nifti
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import io_orientation

from heartseg.data.cases import CaseFiles
from heartseg.data.geometry import Plane, SliceLayout
from heartseg.data.slicing import SliceRecipe
from heartseg.data.store import read_color, read_manifest, write_manifest
from heartseg.labels import HVSMR
from heartseg.pipelines.prepare import prepare_case

RIGHT_TO = {"R": "RL", "A": "AP", "S": "SI"}
ORIENTATIONS = [
    "".join(sides)
    for order in ("RAS", "RSA", "ARS", "ASR", "SRA", "SAR")
    for sides in np.stack(
        np.meshgrid(*[list(RIGHT_TO[axis]) for axis in order]), axis=-1
    ).reshape(-1, 3)
]  # fmt: skip
LANDMARK = 5

repeatable = partial(settings, deadline=None, derandomize=True, database=None)
affines = st.builds(
    lambda axes, spacing, degrees, origin: rotate(make_affine(axes, spacing, origin), degrees),
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.3, 3)] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(-300, 300)] * 3),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("places")


@repeatable(max_examples=20)
@given(
    affine=affines,
    # As large as the slices of the data set are; the network is as small as makes sense for them.
    shape=st.tuples(*[st.integers(128, 330)] * 2),
    side=st.integers(192, 512),
    coarseness=st.one_of(st.none(), st.floats(0.7, 1.25)),
    plane=st.sampled_from(list(Plane)),
    seed=st.integers(0, 99),
)
def test_99_percent_of_a_smooth_label_map_survive_the_networks_grid(
    affine, shape, side, coarseness, plane, seed
):
    layout = SliceLayout.from_affine(affine, plane)
    sizes = [0, 0, 0]
    sizes[layout.slice_axis], sizes[layout.row_axis], sizes[layout.col_axis] = 3, *shape
    labels = make_scan(tuple(sizes), seed=seed, num_classes=4).labels.astype(np.uint8)
    spacing = layout.spacing_mm(affine)
    recipe = SliceRecipe(image_height=side, image_width=side)
    grid = recipe.grid(shape, spacing)
    if coarseness is not None:
        recipe = replace(recipe, fit="pad", spacing_mm=coarseness * min(spacing))
        grid = recipe.grid(shape, spacing)
        # Room for the whole slice: what is cropped away does not come back.
        grid = replace(grid, network_shape=tuple(max(side, size) for size in grid.resized_shape))

    rebuilt = np.full_like(labels, 255)
    for source, target in zip(layout.stack(labels), layout.stack(rebuilt), strict=True):
        target[:] = grid.labels_to_native(grid.labels_to_network(source))

    assert (rebuilt == labels).mean() >= 0.99


def make_landmark(affine, shape, place):
    """Return a scan that is dark but for a cube of three voxels, and where its centre lies."""
    index = np.array(
        [1 + round(share * (size - 3)) for share, size in zip(place, shape, strict=True)]
    )
    labels = np.zeros(shape, np.int16)
    labels[tuple(slice(i - 1, i + 2) for i in index)] = LANDMARK
    return labels, nibabel.affines.apply_affine(affine, index)


landmarks = {
    "affine": affines,
    "shape": st.tuples(*[st.integers(9, 40)] * 3),
    "place": st.tuples(*[st.floats(0, 1)] * 3),
}


def write_scan(folder, labels, affine, name="pat1"):
    for suffix, voxels in (("norm", (labels / 8).astype(np.float32)), ("seg", labels)):
        write_nifti(folder / f"{name}_cropped_{suffix}.nii", voxels, affine)
    return [folder / f"{name}_cropped_{suffix}.nii" for suffix in ("norm", "seg")]


@repeatable(max_examples=20)
@given(
    **landmarks,
    plane=st.sampled_from(list(Plane)),
    fit=st.sampled_from(["stretch", "pad"]),
)
def test_a_landmark_is_found_again_from_the_slices_on_disk(
    folder, affine, shape, place, plane, fit
):
    labels, world = make_landmark(affine, shape, place)
    case = CaseFiles("pat1", *write_scan(folder, labels, affine))
    source = nibabel.load(case.image_file)
    finest = source.header.get_zooms()
    recipe = SliceRecipe(
        plane=plane.value,
        fit=fit,
        image_height=160,
        image_width=128,
        # No side is longer than 128 pixels then, and no voxel shorter than half of one.
        spacing_mm=max(size * step for size, step in zip(shape, finest, strict=True)) / 128,
    )
    done = prepare_case(case, master_dir=folder, recipe=recipe, table=HVSMR, keep_empty=False)
    write_manifest(folder / "manifest.csv", done.records)

    places = [
        (row.slice, *center(read_color(folder / "masks" / row.file), recipe, row))
        for row in read_manifest(folder / "manifest.csv")
        if row.foreground
    ]
    found = to_world(source, plane, np.mean(places, axis=0))
    # A voxel, or the pixel it became where that is larger.
    assert np.linalg.norm(found - world) <= max(*finest, recipe.spacing_mm)


def center(mask, recipe, row):
    """Return where the labelled pixels of a mask lie, in rows and columns of the scan's slice."""
    pixels = np.argwhere(mask.any(axis=-1)).mean(axis=0)
    native = np.array([row.height, row.width])
    network = np.array([recipe.image_height, recipe.image_width])
    if recipe.fit == "stretch":
        return (pixels + 0.5) * native / network - 0.5
    spacing = np.array([row.spacing_row_mm, row.spacing_col_mm])
    resized = np.maximum(1, np.round(native * spacing / recipe.spacing_mm))
    return (pixels - (network - resized) // 2 + 0.5) * native / resized - 0.5


def to_world(source, plane, place):
    """Return the point of a slice's pixel by nibabel's reorientation alone."""
    turned = nibabel.as_closest_canonical(source)
    index, row, col = place
    stack = {Plane.SAGITTAL: 0, Plane.CORONAL: 1, Plane.AXIAL: 2}[plane]
    turns = io_orientation(source.affine)
    axis = list(turns[:, 0]).index(stack)
    right, anterior, superior = (size - 1 for size in turned.shape)
    index = index if turns[axis, 1] > 0 else source.shape[axis] - 1 - index
    voxel = {
        Plane.SAGITTAL: (index, col, superior - row),
        Plane.CORONAL: (right - col, index, superior - row),
        Plane.AXIAL: (right - col, anterior - row, index),
    }[plane]
    return nibabel.affines.apply_affine(turned.affine, voxel)
