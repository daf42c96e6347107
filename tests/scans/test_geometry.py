from itertools import permutations, product

import numpy as np
import pytest
from builders import make_affine, make_scan, rotate
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_resizing import bilinear, nearest

from heartseg.scans.geometry import Plane, SliceGrid, SliceLayout

SCAN = make_scan()
ORIENTATIONS = [
    "".join(sides) for pairs in permutations(("LR", "PA", "IS")) for sides in product(*pairs)
]


def test_a_pir_volume_is_cut_as_in_the_published_pictures():
    layout = SliceLayout.from_affine(SCAN.affine, Plane.SAGITTAL)
    slices = layout.stack(SCAN.image)
    assert slices.shape == (9, 11, 14)
    for index in range(9):
        clockwise = np.rot90(SCAN.image[:, :, index], k=-1)
        np.testing.assert_array_equal(slices[index], clockwise)


@pytest.mark.parametrize("axes", ORIENTATIONS)
@pytest.mark.parametrize("plane", list(Plane))
def test_every_orientation_gives_the_same_pictures(axes, plane):
    turned = SCAN.turned(axes)
    expected = SliceLayout.from_affine(SCAN.affine, plane)
    layout = SliceLayout.from_affine(turned.affine, plane)

    slices, wanted = layout.stack(turned.image), expected.stack(SCAN.image)

    # Slices keep the order of the file, so a flipped stacking axis reverses them.
    if not np.array_equal(slices, wanted):
        slices = slices[::-1]
    np.testing.assert_array_equal(slices, wanted)
    assert layout.spacing_mm(turned.affine) == pytest.approx(expected.spacing_mm(SCAN.affine))


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize(
    ("plane", "down", "right", "stacked"),
    [("sagittal", "I", "A", "LR"), ("coronal", "I", "L", "PA"), ("axial", "P", "L", "IS")],
)
@pytest.mark.parametrize("axes", ["PIR", "RAS", "LPS", "SAL"])
def test_rows_and_columns_run_toward_the_sides_of_the_convention(plane, down, right, stacked, axes):
    """Check that a voxel nearer to a side of the patient is further along the picture."""
    layout = SliceLayout.from_affine(make_affine(axes, (1, 1, 1)), plane)
    shape = (6, 7, 8)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = grid @ make_affine(axes, (1, 1, 1))[:3, :3].T
    row_axis, col_axis, stack_axis = (
        next(i for i, pair in enumerate(("LR", "PA", "IS")) if side in pair)
        for side in (down, right, stacked)
    )
    rows, cols = layout.stack(world[..., row_axis]), layout.stack(world[..., col_axis])
    assert np.all(np.diff(rows, axis=1) == (1 if down in "RAS" else -1))
    assert np.all(np.diff(cols, axis=2) == (1 if right in "RAS" else -1))
    assert np.all(np.abs(np.diff(layout.stack(world[..., stack_axis]), axis=0)) == 1)


def test_slices_of_an_oblique_volume_follow_the_nearest_axes():
    for plane in Plane:
        straight = SliceLayout.from_affine(SCAN.affine, plane)
        assert SliceLayout.from_affine(rotate(SCAN.affine), plane) == straight


def test_writing_to_the_slices_changes_the_volume():
    layout = SliceLayout.from_affine(make_affine("LSA"), "coronal")
    rebuilt = np.zeros_like(SCAN.labels)
    for index, labels in enumerate(layout.stack(SCAN.labels)):
        layout.stack(rebuilt)[index] = labels
    np.testing.assert_array_equal(rebuilt, SCAN.labels)


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.05, 8)] * 3),
    axes=st.sampled_from(ORIENTATIONS),
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    plane=st.sampled_from(list(Plane)),
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_volume_to_slices_and_back_is_the_identity(shape, spacing, axes, degrees, plane):
    affine = rotate(make_affine(axes, spacing), degrees)
    layout = SliceLayout.from_affine(affine, plane)
    voxels = np.arange(np.prod(shape)).reshape(shape)
    rebuilt = np.full_like(voxels, -1)

    layout.stack(rebuilt)[:] = layout.stack(voxels)

    assert {layout.slice_axis, layout.row_axis, layout.col_axis} == {0, 1, 2}
    np.testing.assert_array_equal(rebuilt, voxels)
    np.testing.assert_allclose(
        layout.spacing_mm(affine), (spacing[layout.row_axis], spacing[layout.col_axis])
    )


@pytest.mark.parametrize("new", [512, 128, 96, 48, 37])
def test_labels_take_the_nearest_pixel_at_every_size(new):
    for old in range(1, 330):
        column = np.arange(old)
        grid = SliceGrid((old, 1), (new, 1), (new, 1))
        digits = [
            grid.labels_to_network((column // 250**k % 250).astype(np.uint8)[:, None])
            for k in range(2)
        ]
        taken = digits[0].astype(int) + 250 * digits[1].astype(int)
        np.testing.assert_array_equal(taken, nearest(column[:, None], (new, 1)), err_msg=str(old))


@given(native=st.tuples(*[st.integers(1, 70)] * 2), larger=st.tuples(*[st.integers(0, 90)] * 2))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_enlarging_and_shrinking_labels_restores_them(native, larger):
    network = (native[0] + larger[0], native[1] + larger[1])
    grid = SliceGrid(native, network, network)
    labels = np.random.default_rng(0).integers(0, 9, native, dtype=np.uint8)
    np.testing.assert_array_equal(grid.labels_to_native(grid.labels_to_network(labels)), labels)


@pytest.mark.parametrize(
    ("native", "network"),
    [((11, 14), (32, 24)), ((40, 50), (32, 24)), ((1, 1), (8, 8)), ((5, 1), (4, 9))],
)
def test_a_stretched_image_is_bilinear_with_aligned_centres(native, network):
    image = np.random.default_rng(1).normal(size=native).astype(np.float32)
    resized = SliceGrid(native, network, network).image_to_network(image)
    assert resized.shape == network
    np.testing.assert_allclose(resized, bilinear(image, network), atol=1e-5)


def test_a_small_slice_is_padded_and_a_large_one_cropped_around_its_centre():
    labels = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    grid = SliceGrid((3, 4), (3, 4), (5, 2))
    expected = np.zeros((5, 2), np.uint8)
    expected[1:4] = labels[:, 1:3]

    np.testing.assert_array_equal(grid.labels_to_network(labels), expected)
    back = np.zeros((3, 4), np.uint8)
    back[:, 1:3] = labels[:, 1:3]
    np.testing.assert_array_equal(grid.labels_to_native(expected), back)
    np.testing.assert_array_equal(grid.image_to_network(labels.astype(np.float32)), expected)


def test_probabilities_outside_the_network_are_background():
    grid = SliceGrid((6, 8), (6, 8), (4, 4))
    probabilities = np.zeros((4, 4, 3), np.float32)
    probabilities[..., 2] = 1
    native = grid.probabilities_to_native(probabilities)

    assert native.shape == (6, 8, 3)
    np.testing.assert_allclose(native.sum(axis=-1), 1)
    expected = np.zeros((6, 8), int)
    expected[1:5, 2:6] = 2
    np.testing.assert_array_equal(native.argmax(axis=-1), expected)


def test_probabilities_of_many_classes_keep_their_sum():
    grid = SliceGrid((11, 14), (32, 24), (32, 24))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(9), (32, 24)).astype(np.float32)
    native = grid.probabilities_to_native(probabilities)
    assert native.shape == (11, 14, 9)
    np.testing.assert_allclose(native.sum(axis=-1), 1, atol=1e-5)


def test_a_slice_of_the_size_of_the_network_is_not_changed():
    image = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    grid = SliceGrid((7, 9), (7, 9), (7, 9))
    np.testing.assert_array_equal(grid.image_to_network(image), image)
