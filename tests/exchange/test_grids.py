import nibabel
import numpy as np
import pytest
from builders import make_scan, rotate

from heartseg.errors import DataError
from heartseg.exchange.grids import place_labels, share_grid
from heartseg.scans.volume import Volume, build_volume

SCAN = make_scan()
LABELS = SCAN.labels.astype(np.uint8)
AFFINE = rotate(SCAN.affine)


def place(labels, affine):
    return place_labels(labels, affine, shape=LABELS.shape, target=AFFINE, source="a")


def cut(labels, affine, box):
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return labels[box], moved


@pytest.mark.parametrize("axes", ["PIR", "RAS", "LPS", "SRA", "AIL"])
def test_a_label_map_stored_along_other_axes_comes_back(axes):
    image = nibabel.Nifti1Image(LABELS, AFFINE)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(turn)
    np.testing.assert_array_equal(place(np.asarray(turned.dataobj), turned.affine), LABELS)


def test_a_part_of_the_grid_is_put_in_its_place():
    box = (slice(2, 9), slice(1, 10), slice(3, 7))
    expected = np.zeros_like(LABELS)
    expected[box] = LABELS[box]
    np.testing.assert_array_equal(place(*cut(LABELS, AFFINE, box)), expected)


def test_empty_voxels_may_lie_outside_and_labelled_ones_may_not():
    padded = np.pad(LABELS, ((2, 1), (0, 3), (1, 0)))
    moved = AFFINE.copy()
    moved[:3, 3] -= AFFINE[:3, :3] @ (2, 0, 1)
    np.testing.assert_array_equal(place(padded, moved), LABELS)
    padded[0, 0, 0] = 1
    with pytest.raises(DataError, match="a: labels lie outside of the scan"):
        place(padded, moved)


def test_a_label_map_that_lies_elsewhere_is_refused():
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ (1000, 0, 0)
    with pytest.raises(DataError, match="a: labels lie outside of the scan"):
        place(LABELS, moved)
    assert not place(np.zeros_like(LABELS), moved).any()


@pytest.mark.parametrize("change", ["half a voxel", "another spacing", "another angle"])
def test_voxels_that_do_not_coincide_are_refused(change):
    affine = AFFINE.copy()
    if change == "half a voxel":
        affine[:3, 3] += 0.5 * affine[:3, 0]
    elif change == "another spacing":
        affine[:3, 1] *= 1.01
    else:
        affine = rotate(AFFINE, (1.0, 0.0, 0.0))
    with pytest.raises(DataError, match="a: its voxels do not coincide with those of the scan"):
        place(LABELS, affine)


def test_affines_that_differ_by_rounding_are_the_same_grid():
    np.testing.assert_array_equal(place(LABELS, AFFINE.astype(np.float32).astype(float)), LABELS)


def test_label_maps_of_parts_come_onto_the_smallest_grid_that_holds_both():
    first = cut(LABELS, AFFINE, (slice(2, 9), slice(1, 10), slice(3, 7)))
    second = cut(LABELS, AFFINE, (slice(0, 7), slice(2, 8), slice(4, 8)))
    turned = nibabel.Nifti1Image(*second).as_reoriented([[2, -1], [0, 1], [1, 1]])
    maps = [build_volume(*first), build_volume(np.asarray(turned.dataobj), turned.affine)]

    shared = share_grid(maps, sources=["a", "b"])

    for found, box in zip(shared, [(2, 9, 1, 10, 3, 7), (0, 7, 2, 8, 4, 8)], strict=True):
        expected = np.zeros_like(LABELS)
        inside = tuple(slice(*box[2 * k : 2 * k + 2]) for k in range(3))
        expected[inside] = LABELS[inside]
        np.testing.assert_array_equal(found.voxels, expected[0:9, 1:10, 3:8])
        np.testing.assert_allclose(
            found.affine[:3, 3], (AFFINE @ [0, 1, 3, 1])[:3], rtol=0, atol=1e-4
        )


def test_label_maps_that_do_not_coincide_or_lie_far_apart_share_no_grid():
    near = build_volume(LABELS, AFFINE)
    for move, problem in ((0.5, "b: its voxels do not coincide"), (1e5, "a and b: .* too large")):
        affine = near.affine.copy()
        affine[:3, 3] += near.affine[:3, :3] @ (move, move, move)
        with pytest.raises(DataError, match=problem):
            share_grid([near, Volume(LABELS, affine, near.header)], sources=["a", "b"])
