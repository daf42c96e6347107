import numpy as np
import pytest
from builders import make_scan, write_nifti

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.scans.nearest import resize_labels
from heartseg.scans.resampling import resample_to
from heartseg.scans.volume import Volume
from heartseg.synthesis.rendering import HEART_FRACTION, find_heart
from heartseg.synthesis.scene import SCENE_GRID
from heartseg.synthesis.sources import CLOSE_ROOM, lay_scan, read_scan, read_scene

# Voxels and slices of the grid of scenes, so that nothing is resampled.
SCAN = make_scan(SCENE_GRID, spacing_mm=(2.0, 2.0, 2.5))
LABELS = SCAN.labels.astype(np.uint8)


def write(folder, scan, labels=None):
    image_file = write_nifti(folder / "a.nii", scan.image.astype(np.float32), scan.affine)
    labels = scan.labels if labels is None else labels
    return image_file, write_nifti(folder / "a_seg.nii", labels, scan.affine)


def partial():
    labels = SCAN.labels.copy()
    labels[:, :, 1:] = 255
    return labels


def test_a_scene_of_a_label_map_depends_on_its_seed_alone(tmp_path):
    _, label_file = write(tmp_path, SCAN)
    first, again, other = (read_scene(label_file, HVSMR, seed=seed) for seed in ((1,), (1,), (2,)))
    assert first.labels.shape == first.tissues.shape == SCENE_GRID
    np.testing.assert_array_equal(first.tissues, again.tissues)
    assert (first.tissues != other.tissues).any()


def test_a_scene_does_not_depend_on_how_the_label_map_is_stored(tmp_path):
    _, label_file = write(tmp_path / "pir", SCAN)
    _, turned_file = write(tmp_path / "ras", SCAN.turned("RAS"))
    first, turned = (read_scene(file, HVSMR, seed=(1,)) for file in (label_file, turned_file))
    np.testing.assert_array_equal(first.labels, turned.labels)


def test_a_partial_label_map_gives_no_scene(tmp_path):
    _, label_file = write(tmp_path, SCAN, partial())
    assert read_scene(label_file, HVSMR, seed=(1,)) is None


def test_an_empty_label_map_is_refused(tmp_path):
    _, label_file = write(tmp_path, SCAN, np.zeros_like(SCAN.labels))
    with pytest.raises(DataError, match=r"a_seg\.nii: .*no structure"):
        read_scene(label_file, HVSMR, seed=(1,))


@pytest.mark.parametrize("axes", ["PIR", "RAS", "LSA"])
def test_a_scan_is_turned_to_the_axes_of_scenes(tmp_path, axes):
    scan = read_scan(*write(tmp_path, SCAN.turned(axes)), HVSMR)
    shape = scan.labels.shape
    np.testing.assert_allclose(scan.image, resample_to(SCAN.image, shape), atol=1e-5)
    np.testing.assert_array_equal(scan.labels, resize_labels(LABELS, shape))
    # The structures of this scan end a little before its border.
    assert shape == (72, 100, 79)


def test_a_scan_may_be_labelled_in_part(tmp_path):
    scan = read_scan(*write(tmp_path, SCAN, partial()), HVSMR)
    assert set(np.unique(scan.labels[:, :, 1:])) == {255}
    assert set(np.unique(scan.labels[:, :, 0])) == set(np.unique(SCAN.labels[:, :, 0]))


def test_a_scan_and_a_label_map_on_other_grids_are_refused(tmp_path):
    image_file, _ = write(tmp_path, SCAN)
    moved = SCAN.affine.copy()
    moved[0, 3] += 5
    label_file = write_nifti(tmp_path / "b_seg.nii", SCAN.labels, moved)
    with pytest.raises(DataError, match=r"a\.nii: lies up to 5 mm away from .*b_seg\.nii"):
        read_scan(image_file, label_file, HVSMR)


def test_the_box_around_the_heart_is_as_fine_in_a_scan_of_the_whole_chest():
    around = [(3 * side // 4,) * 2 for side in SCENE_GRID]
    image, labels = (
        Volume(np.pad(voxels, around), SCAN.affine, None)
        for voxels in (SCAN.image.astype(np.float32), LABELS)
    )
    scan = lay_scan(image, labels, num_classes=9)
    low, high = find_heart(scan.labels, 9)
    # The heart takes its usual part of a box of the grid of scenes ...
    np.testing.assert_allclose(high - low, np.array(SCENE_GRID) * HEART_FRACTION, atol=1.5)
    # ... and half a box is kept beyond it on every side.
    np.testing.assert_allclose(scan.labels.shape, 2 * np.array(SCENE_GRID), atol=2)
    first, last = find_heart(LABELS, 9)
    larger = np.prod((high - low) / (last - first))
    assert np.count_nonzero(scan.labels) == pytest.approx(
        larger * np.count_nonzero(LABELS), rel=0.05
    )
    fine = (112, 144, 128)
    close = lay_scan(image, labels, num_classes=9, grid=fine, room=CLOSE_ROOM)
    np.testing.assert_allclose(close.labels.shape, (1 + 2 * CLOSE_ROOM) * np.array(fine), atol=4)


def test_unlabelled_slices_count_as_heart():
    labels = np.full((20, 20, 30), 255, np.uint8)
    labels[:, :, 12] = 0
    labels[4:9, 6:16, 12] = 3
    low, high = find_heart(labels, 9)
    np.testing.assert_array_equal(low, [3.5, 5.5, -0.5])
    np.testing.assert_array_equal(high, [8.5, 15.5, 29.5])
