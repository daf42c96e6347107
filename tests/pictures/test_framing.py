import numpy as np
import pytest
from builders import make_affine, rotate

from heartseg.pictures.framing import (
    find_heart,
    frame_box,
    frame_slice,
    see_image,
    see_labels,
    side_marks,
    world_axes,
)

SHAPE, SPACING_MM = (50, 30, 44), (0.8, 1.5, 1.1)
OBLIQUE = rotate(make_affine("PIR", SPACING_MM), (20.0, -15.0, 12.0))


def world_of(shape, affine):
    """Return the ``(X, Y, Z, 3)`` position of each voxel in mm."""
    index = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def make_ball(affine, radius_mm, shape=SHAPE):
    """Return a label map with a ball in the middle of the scan, and its centre."""
    world = world_of(shape, affine)
    center = affine[:3, :3] @ (np.array(shape) / 2) + affine[:3, 3]
    return (np.linalg.norm(world - center, axis=-1) <= radius_mm).astype(np.uint8), center


@pytest.mark.parametrize("affine", [make_affine("LAS", SPACING_MM), OBLIQUE])
def test_the_box_of_a_ball_lies_around_it(affine):
    labels, center = make_ball(affine, 10)

    box = find_heart(labels, affine, margin_mm=3)

    np.testing.assert_allclose(box.center_mm, center, atol=0.1)
    # Less than a voxel, and half a voxel for its own size.
    np.testing.assert_allclose(box.low_mm, center - 13, atol=1.6)
    np.testing.assert_allclose(box.high_mm, center + 13, atol=1.6)
    np.testing.assert_allclose(box.heart_mm, [box.low_mm + 3, box.high_mm - 3])


def test_the_box_of_a_single_voxel_is_that_voxel():
    affine = make_affine("RAS", SPACING_MM, origin_mm=(0, 0, 0))
    labels = np.zeros(SHAPE, np.uint8)
    labels[10, 20, 30] = 4

    box = find_heart(labels, affine, margin_mm=0)

    np.testing.assert_allclose(box.center_mm, [8, 30, 33])
    np.testing.assert_allclose(box.low_mm, [7.6, 29.25, 32.45])
    np.testing.assert_allclose(box.high_mm, [8.4, 30.75, 33.55])


def test_the_margin_ends_where_the_scan_ends():
    affine = make_affine("RAS", SPACING_MM, origin_mm=(0, 0, 0))

    box = find_heart(np.ones(SHAPE, np.uint8), affine, margin_mm=50)

    np.testing.assert_allclose(box.extent_mm, np.multiply(SHAPE, SPACING_MM))


def test_without_a_label_the_whole_scan_is_framed():
    affine = make_affine("RAS", SPACING_MM, origin_mm=(0, 0, 0))

    box = find_heart(np.zeros(SHAPE, np.uint8), affine)

    np.testing.assert_allclose(box.low_mm, [-0.4, -0.75, -0.55])
    np.testing.assert_allclose(box.extent_mm, [40, 45, 48.4])
    np.testing.assert_allclose(box.center_mm, [19.6, 21.75, 23.65])


@pytest.mark.parametrize("affine", [make_affine("LAS", SPACING_MM), OBLIQUE])
def test_pixels_show_what_lies_at_their_place(affine):
    """Linear interpolation is exact where the image is a linear function of the place."""
    image = world_of(SHAPE, affine) @ [1.0, -2.0, 3.0]
    box = find_heart(make_ball(affine, 6)[0], affine, margin_mm=1)

    for frame in (
        frame_box(box, step_mm=0.9),
        *(frame_slice(p, box, box.center_mm[world_axes(p)[0]], step_mm=0.7) for p in PLANES),
    ):
        expected = world_of(frame.shape, frame.affine) @ [1.0, -2.0, 3.0]
        seen = see_image(image, affine, frame, outside=0)
        np.testing.assert_allclose(seen, expected, atol=1e-3)


PLANES = ("axial", "coronal", "sagittal")
CORNERS = {
    # First row and column, in the direction of right, anterior, superior.
    "axial": ([1, 1, 0], 2),
    "coronal": ([1, 0, 1], 1),
    "sagittal": ([0, -1, 1], 0),
}


@pytest.mark.parametrize("plane", PLANES)
def test_slices_lie_as_radiologists_look_at_them(plane):
    box = find_heart(make_ball(OBLIQUE, 8)[0], OBLIQUE)
    sides, stack = CORNERS[plane]

    frame = frame_slice(plane, box, box.center_mm[stack], step_mm=0.5)

    corner = frame.affine[:3, 3] - box.center_mm
    assert corner[stack] == pytest.approx(0)
    np.testing.assert_array_equal(np.sign(np.round(corner, 6)), sides)
    np.testing.assert_allclose(np.linalg.norm(frame.affine[:3, 1:3], axis=0), 0.5)


def test_marks_name_the_sides_of_a_slice():
    """Top, bottom, left, right."""
    assert side_marks("axial") == ("A", "P", "R", "L")
    assert side_marks("coronal") == ("S", "I", "R", "L")
    assert side_marks("sagittal") == ("S", "I", "P", "A")


@pytest.mark.parametrize("affine", [make_affine("PIR", SPACING_MM), OBLIQUE])
def test_a_ball_is_as_large_in_the_frame_as_in_the_scan(affine):
    labels, _ = make_ball(affine, 10)
    frame = frame_box(find_heart(labels, affine), step_mm=0.8)

    seen = see_labels(labels, affine, frame)

    voxel_mm3 = np.prod(SPACING_MM)
    assert seen.sum() * 0.8**3 == pytest.approx(labels.sum() * voxel_mm3, rel=0.03)
    # Round, whatever the voxels: as wide as it is high and deep.
    sides = np.ptp(np.argwhere(seen), axis=0) + 1
    assert np.ptp(sides) <= 2


def test_labels_end_with_the_outermost_voxels():
    affine = make_affine("RAS", (1, 1, 1), origin_mm=(0, 0, 0))
    labels = np.ones((4, 5, 6), np.uint8)
    frame = frame_box(find_heart(labels, affine), step_mm=0.25)

    assert frame.shape == (24, 20, 16)
    assert see_labels(labels, affine, frame).all()


def test_voxels_much_finer_than_pixels_are_averaged():
    rng = np.random.default_rng(0)
    affine = make_affine("RAS", (0.25, 0.25, 0.25), origin_mm=(0, 0, 0))
    noise = rng.normal(0, 1, (64, 60, 56)).astype(np.float32)
    frame = frame_box(find_heart(np.ones(noise.shape, np.uint8), affine), step_mm=1.0)

    seen = see_image(noise, affine, frame, outside=0)

    # The mean of 4 x 4 x 4 voxels has an eighth of their deviation.
    assert seen.std() == pytest.approx(1 / 8, rel=0.15)
