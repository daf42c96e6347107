import nibabel
import numpy as np
import pytest
from builders import make_affine, rotate

from heartseg.errors import DataError
from heartseg.scans.oblique import check_straight, obliqueness_deg, straighten
from heartseg.scans.volume import Volume


def volume_of(voxels, affine):
    return Volume(voxels.astype(np.float32), affine, nibabel.Nifti1Header())


def world_of(affine, shape):
    """Return the ``(*shape, 3)`` positions of voxel centres in mm."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return grid @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("axes", ["RAS", "PIR", "LSA"])
@pytest.mark.parametrize(("turn", "expected"), [(0, 0), (10, 10), (-25, 25), (60, 30), (90, 0)])
def test_obliqueness_is_the_angle_to_the_nearest_axis(axes, turn, expected):
    affine = rotate(make_affine(axes), (0, 0, turn))
    # Near 0 the arc cosine turns a rounding error of 1e-16 into 1e-6 degrees.
    assert obliqueness_deg(affine) == pytest.approx(expected, abs=1e-5)


def test_a_scan_that_is_turned_too_far_is_refused_by_name():
    check_straight(rotate(make_affine("PIR"), (0, 0, 19)), needed_by="refine", source="scan.nii")

    with pytest.raises(DataError, match=r"scan\.nii: is turned by 35 degrees .*; refine needs"):
        check_straight(
            rotate(make_affine("PIR"), (0, 0, 35)), needed_by="refine", source="scan.nii"
        )


def test_a_straight_isotropic_scan_stays_as_it_is():
    scan = np.random.default_rng(0).normal(size=(5, 6, 7))
    affine = make_affine("RAS", (2.0, 2.0, 2.0))
    straight = straighten(volume_of(scan, affine), 100)
    np.testing.assert_allclose(straight.voxels, scan, atol=1e-6)
    np.testing.assert_allclose(straight.affine, affine)


def test_a_straightened_scan_keeps_its_intensities_in_place():
    affine = rotate(make_affine("PIR", (1.0, 1.2, 1.5)), (0, 0, 20))
    gradient = np.array([0.3, -0.2, 0.1])
    scan = volume_of(world_of(affine, (24, 22, 20)) @ gradient, affine)

    straight = straighten(scan, 100)

    assert obliqueness_deg(straight.affine) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(straight.spacing_mm, 1.0)
    world = world_of(straight.affine, straight.voxels.shape)
    voxel = world @ np.linalg.inv(affine)[:3, :3].T + np.linalg.inv(affine)[:3, 3]
    inside = ((voxel >= 0) & (voxel <= np.subtract(scan.voxels.shape, 1))).all(axis=-1)
    assert inside.mean() > 0.4
    # Linear interpolation of a linear function is exact.
    np.testing.assert_allclose(straight.voxels[inside], (world @ gradient)[inside], atol=1e-4)
    # Outside the scan its border voxels are repeated.
    assert straight.voxels.min() >= scan.voxels.min() - 1e-4
    assert straight.voxels.max() <= scan.voxels.max() + 1e-4


def test_the_box_holds_the_scan_and_no_side_is_longer_than_asked():
    affine = rotate(make_affine("RAS", (0.5, 0.5, 3.0)), (8, 15, -12))
    scan = volume_of(np.ones((40, 30, 9)), affine)

    straight = straighten(scan, 32)

    assert max(straight.voxels.shape) == 32
    assert np.ptp(straight.spacing_mm) < 1e-9
    corners = world_of(affine, scan.voxels.shape).reshape(-1, 3)
    edge = straight.spacing_mm / 2
    low = straight.affine[:3, 3] - edge
    high = low + straight.spacing_mm * straight.voxels.shape
    assert (corners > low).all()
    assert (corners < high).all()
