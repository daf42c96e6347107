import csv
import json

import nibabel
import numpy as np
import pytest
from builders import SHAPE, make_affine, make_scan, rotate
from plain_resizing import bilinear, nearest

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.scans.volume import Volume, read_image, read_label_map
from heartseg.slices.recipe import PreparedVolume, SliceRecipe, prepare_slice, to_network_input
from heartseg.slices.store import read_color

SCAN = make_scan()


def volume_of(scan):
    return Volume(scan.image.astype(np.float32), scan.affine, nibabel.Nifti1Header())


def test_a_published_picture_is_the_turned_slice_resized_bilinearly():
    prepared = PreparedVolume(volume_of(SCAN), SliceRecipe())
    assert len(prepared) == SHAPE[2]
    for index in (0, 4, 8):
        turned = np.rot90(SCAN.image[:, :, index], k=-1)
        expected = np.clip(255 * bilinear(turned, (512, 512)), 0, 255)
        assert prepared[index].dtype == np.uint8
        assert np.abs(prepared[index] - expected).max() <= 1


@pytest.mark.parametrize("axes", ["RAS", "LPS", "ASR", "ILP"])
@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_the_same_anatomy_gives_the_same_pictures_in_any_orientation(axes, plane, fit):
    recipe = SliceRecipe(
        plane=plane,
        fit=fit,
        image_height=24,
        image_width=32,
        window="percentile",
        window_range=(2, 98),
    )
    wanted = PreparedVolume(volume_of(SCAN), recipe)
    turned = PreparedVolume(volume_of(SCAN.turned(axes)), recipe)
    pictures = {wanted[index].tobytes() for index in range(len(wanted))}
    assert {turned[index].tobytes() for index in range(len(turned))} == pictures


def test_an_oblique_scan_gives_the_pictures_of_the_straight_one():
    oblique = Volume(SCAN.image.astype(np.float32), rotate(SCAN.affine), nibabel.Nifti1Header())
    for fit in ("stretch", "pad"):
        recipe = SliceRecipe(fit=fit, image_height=24, image_width=32)
        np.testing.assert_array_equal(
            PreparedVolume(oblique, recipe)[4], PreparedVolume(volume_of(SCAN), recipe)[4]
        )


def test_padding_keeps_proportions():
    """A disc in millimetres, on anisotropic pixels, is a disc of pixels after resampling."""
    spacing = (0.5, 1.25, 1.0)  # along P, I, R
    shape = (80, 32, 3)
    p, i = np.meshgrid(np.arange(shape[0]) * 0.5, np.arange(shape[1]) * 1.25, indexing="ij")
    disc = np.hypot(p - p.mean(), i - i.mean()) < 12
    image = np.repeat(disc[..., np.newaxis], 3, axis=2).astype(np.float32)
    volume = Volume(image, make_affine("PIR", spacing), nibabel.Nifti1Header())
    recipe = SliceRecipe(fit="pad", image_height=64, image_width=64, spacing_mm=0.5)

    picture = PreparedVolume(volume, recipe)[1] > 127

    height = np.flatnonzero(picture.any(axis=1)).size
    width = np.flatnonzero(picture.any(axis=0)).size
    assert abs(height - 48) <= 2
    assert abs(width - 48) <= 2
    rows, cols = np.nonzero(picture)
    assert abs(rows.mean() - 31.5) <= 1
    assert abs(cols.mean() - 31.5) <= 1


def test_padding_is_black_whatever_the_window():
    recipe = SliceRecipe(fit="pad", image_height=48, image_width=48, window_range=(-5.0, 5.0))
    picture = PreparedVolume(volume_of(SCAN), recipe)[4]
    assert picture[0].max() == 0
    assert picture[24, 24] > 100


def test_labels_on_a_padded_grid_come_back_to_the_scan():
    recipe = SliceRecipe(fit="pad", image_height=64, image_width=64, spacing_mm=0.4)
    prepared = PreparedVolume(volume_of(SCAN), recipe)
    for labels in prepared.layout.stack(SCAN.labels.astype(np.uint8)):
        there = prepared.grid.labels_to_network(labels)
        np.testing.assert_array_equal(prepared.grid.labels_to_native(there), labels)


def test_percentile_windows_depend_on_the_whole_scan():
    recipe = SliceRecipe(window="percentile", window_range=(0.0, 100.0))
    prepared = PreparedVolume(volume_of(SCAN), recipe)
    image = SCAN.image.astype(np.float32)
    assert prepared.limits == pytest.approx((image.min(), image.max()))


def test_indices_outside_the_volume_are_refused():
    prepared = PreparedVolume(volume_of(SCAN), SliceRecipe())
    for index in (-1, SHAPE[2]):
        with pytest.raises(IndexError):
            prepared[index]
    assert len(list(prepared)) == SHAPE[2]


def test_a_resampling_that_would_be_too_large_is_refused():
    volume = Volume(
        SCAN.image.astype(np.float32), make_affine(spacing_mm=(900, 900, 1)), nibabel.Nifti1Header()
    )
    with pytest.raises(
        DataError,
        match=r"11 x 14 pixels of 900 x 900 mm become 9900 x 12600 .* at most 8192 per side",
    ):
        PreparedVolume(volume, SliceRecipe(fit="pad"))


def test_extremes_do_not_spread_through_the_interpolation():
    image = np.zeros((6, 7), np.float32)
    image[2, 3] = 3e38
    grid = SliceRecipe(image_height=12, image_width=14).grid((6, 7), (1, 1))
    picture = prepare_slice(image, grid, (0.0, 1.0))
    assert picture[5, 7] == 255
    assert picture[0, 0] == 0


def test_a_recipe_is_read_from_json_as_it_was_written():
    recipe = SliceRecipe("axial", "pad", 64, 96, 0.75, "percentile", (1.0, 99.0), 1)
    assert SliceRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert SliceRecipe.from_dict({}) == SliceRecipe()


@pytest.mark.parametrize(
    "values",
    [
        {"zoom": 2},
        {"plane": "oblique"},
        {"fit": "crop"},
        {"window": "auto"},
        {"window_range": (1, 0)},
        {"window_range": (0,)},
        {"window_range": 3},
        {"window_range": ("a", "b")},
        {"image_height": 0},
        {"image_height": "64"},
        {"image_channels": None},
        {"spacing_mm": 0},
        {"spacing_mm": float("nan")},
    ],
)
def test_an_invalid_recipe_is_refused(values):
    with pytest.raises(
        ValueError, match=r"not a slice recipe|is not a valid Plane|could not|unpack"
    ):
        SliceRecipe.from_dict(values)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_channel_of_the_network_input_is_the_slice_in_0_to_1(channels):
    slices = np.array([[[0, 51], [204, 255]]], np.uint8)
    batch = to_network_input(slices, channels)
    assert batch.shape == (1, 2, 2, channels)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[0, ..., -1], [[0, 0.2], [0.8, 1]])


@pytest.mark.parametrize("case", ["pat4", "pat58"])
def test_real_slices_are_the_published_pictures(hvsmr2, case):
    folder = hvsmr2 / "cropped_norm"
    raw = np.asarray(nibabel.load(folder / f"{case}_cropped_norm.nii.gz").dataobj)
    raw_labels = np.asarray(nibabel.load(folder / f"{case}_cropped_seg.nii.gz").dataobj)
    image = read_image(folder / f"{case}_cropped_norm.nii.gz")
    labels = read_label_map(folder / f"{case}_cropped_seg.nii.gz", HVSMR)
    prepared = PreparedVolume(image, SliceRecipe())
    stack = prepared.layout.stack(labels.voxels)
    for index in range(0, raw.shape[2], 40):
        expected = np.clip(255 * bilinear(np.rot90(raw[:, :, index], -1), (512, 512)), 0, 255)
        assert np.abs(prepared[index] - expected).max() <= 1
        np.testing.assert_array_equal(
            prepared.grid.labels_to_network(stack[index]),
            nearest(np.rot90(raw_labels[:, :, index], -1), (512, 512)),
        )


def test_our_masks_agree_wherever_the_published_ones_are_foreground(hvsmr2):
    with (hvsmr2 / "slices" / "mapping.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    volumes = {
        patient: read_label_map(hvsmr2 / "labels" / f"{patient}_cropped_seg.nii.gz", HVSMR)
        for patient in {row["patient"] for row in rows}
    }
    for row in rows:
        prepared = PreparedVolume(volumes[row["patient"]], SliceRecipe())
        index = int(row["slice_index_axis2"])
        labels = prepared.layout.stack(volumes[row["patient"]].voxels)[index]
        ours = prepared.grid.labels_to_network(labels)
        published = HVSMR.decode(
            read_color(hvsmr2 / "slices" / "masks" / row["png"]), source=row["png"]
        )
        np.testing.assert_array_equal(ours[published > 0], published[published > 0])
        # The published masks lost pixels at the boundaries; ours did not.
        assert np.count_nonzero(ours) > np.count_nonzero(published)
