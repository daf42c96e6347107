import nibabel
import numpy as np

from heartseg.labels import HVSMR
from heartseg.pictures.overlays import overlay, overlay_slices
from heartseg.scans.volume import Volume

# 1 mm to the right, 2 mm to the front, 4 mm upwards.
AFFINE = np.diag([1.0, 2.0, 4.0, 1.0])


def test_an_overlay_mixes_colour_and_grey_and_keeps_the_background():
    image = np.array([[100, 100], [0, 255]], np.uint8)
    labels = np.array([[0, 1], [1, 0]], np.uint8)
    drawn = overlay(image, labels, HVSMR, opacity=0.5)
    assert drawn.tolist() == [[[100] * 3, [140, 80, 80]], [[90, 30, 30], [255] * 3]]


def test_an_overlay_of_opacity_1_shows_the_pure_colours():
    labels = np.arange(9, dtype=np.uint8).reshape(3, 3)
    drawn = overlay(np.zeros((3, 3), np.uint8), labels, HVSMR, opacity=1)
    np.testing.assert_array_equal(drawn, HVSMR.display(labels))


def test_slices_show_grey_levels_and_colours_where_labels_are():
    image = np.full((3, 4, 5), 0.5, np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[1, 0, 4] = 1
    volume = Volume(image, AFFINE, nibabel.Nifti1Header())

    slices = list(overlay_slices(volume, labels, HVSMR, plane="sagittal", limits=(0, 1)))

    assert [picture.shape for picture in slices] == [(5, 4, 3)] * 3
    assert np.all(slices[0] == 128)
    # Superior is up, anterior right: the topmost, hindmost voxel is the upper left pixel.
    np.testing.assert_array_equal(slices[1][0, 0], [151, 97, 97])
    assert np.all(slices[1][1:] == 128)


def test_only_the_requested_slices_are_drawn():
    volume = Volume(np.zeros((3, 4, 5), np.float32), AFFINE, nibabel.Nifti1Header())
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[2] = 5

    first, second = overlay_slices(
        volume, labels, HVSMR, plane="sagittal", limits=(0, 1), indices=[2, 0]
    )

    # 45 % of the orange of the aorta over black.
    assert np.unique(first.reshape(-1, 3), axis=0).tolist() == [[94, 54, 7]]
    assert not second.any()
