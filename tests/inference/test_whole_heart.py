import csv

import cv2
import nibabel
import numpy as np
import pytest
from builders import make_affine, rotate
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from scipy import interpolate
from threadpoolctl import threadpool_info

from heartseg.errors import DataError, ModelError
from heartseg.evaluation.overlap import dice_per_label
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.plausibility import find_notices, is_doubtful
from heartseg.inference.views import View, measure_stability, softmax
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.label_tables import ACDC
from heartseg.labels import HVSMR, LabelTable, Structure
from heartseg.modelfile.description import ModelDescription
from heartseg.modelfile.packaged import CALIBRATION, describe_packaged, is_installed, load_packaged
from heartseg.scans.oblique import obliqueness_deg
from heartseg.scans.volume import Volume, read_image, read_label_map

GRID = (16, 24, 20)
SHAPE = (30, 41, 36)
SPACING_MM = (1.6, 1.2, 1.4)


def predict_by_brightness(images):
    """Stand in for a network that knows places: bright is 1 behind and 2 in front, grey is 3."""
    value = images[..., 0]
    front = (np.arange(value.shape[1]) < value.shape[1] // 2)[None, :, None, None]
    scores = np.stack(
        [
            np.full_like(value, 0.35),
            np.where(front, 0, value - 0.4),
            np.where(front, value - 0.4, 0),
            0.6 - np.abs(value - 0.5) * 4,
        ],
        axis=-1,
    )
    return (20 * scores).astype(np.float32)


def make_heart(shape=SHAPE, *, share=0.88, center=(0.5, 0.5, 0.5)):
    """Return a bright ball that fills its box as hearts do, and a grey one within it."""
    axes = [(np.arange(n) + 0.5) / n - c for n, c in zip(shape, center, strict=True)]
    place = np.stack(np.meshgrid(*axes, indexing="ij"))
    image = np.where(np.linalg.norm(place / (share / 2), axis=0) < 1, 1.0, 0.05)
    grey = np.linalg.norm((place.T - np.array([0, 0.05, 0.1]) * share).T / (share / 6), axis=0) < 1
    return np.where(grey, 0.5, image).astype(np.float32)


def make_volume(voxels, affine=None):
    return Volume(
        voxels,
        make_affine("PIR", SPACING_MM) if affine is None else affine,
        nibabel.Nifti1Header(),
    )


def segment(volume, predict=predict_by_brightness, *, num_classes=4):
    table = LabelTable(HVSMR.structures[:num_classes])
    return WholeHeartSegmenter(
        predict, ModelDescription.for_whole_heart(GRID, table, calibration=CALIBRATION)
    ).segment(volume)


def expected_labels(image):
    front = np.arange(image.shape[0]) < image.shape[0] / 2
    bright = np.where(front, 2, 1)[:, None, None]
    return np.where(image > 0.75, bright, np.where(image > 0.3, 3, 0)).astype(np.uint8)


def test_labels_lie_where_the_image_says():
    image = make_heart()

    result = segment(make_volume(image))

    assert result.labels.shape == SHAPE
    assert result.labels.dtype == np.uint8
    assert dice_per_label(result.labels, expected_labels(image), 4).min() > 0.8
    assert result.stability.min() > 0.7
    assert result.notices == ()


def test_numpy_multiplies_in_one_thread_while_a_scan_is_segmented():
    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def predict(images):
        seen.append(blas_threads())
        return predict_by_brightness(images)

    before, seen = blas_threads(), []
    segment(make_volume(make_heart()), predict)

    assert all(threads == {1} for threads in seen)
    assert seen
    assert blas_threads() == before


@pytest.mark.parametrize("axes", ["LPS", "RAS", "ASL", "SLP", "IRP", "PRI"])
def test_every_orientation_gives_the_same_labels_for_the_same_anatomy(axes):
    volume = make_volume(make_heart())
    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt(tuple(axes)))
    turned = make_volume(
        np.ascontiguousarray(apply_orientation(volume.voxels, turn)),
        volume.affine @ inv_ornt_aff(turn, SHAPE),
    )

    plain, result = segment(volume), segment(turned)

    np.testing.assert_array_equal(result.labels, apply_orientation(plain.labels, turn))
    np.testing.assert_allclose(result.stability, plain.stability, atol=1e-6)


@pytest.mark.parametrize("degrees", [(8, -6, 5), (40, 10, -30)])
def test_an_oblique_scan_gets_labels_on_its_own_grid(degrees):
    # A ball, so that the anatomy is the same however the grid is turned.
    image = make_heart(share=0.8)
    affine = rotate(make_affine("PIR", SPACING_MM), degrees)

    result = segment(make_volume(image, affine))

    assert result.labels.shape == SHAPE
    found, wanted = (result.labels > 0), (image > 0.3)
    assert dice_per_label(found.astype(np.uint8), wanted.astype(np.uint8), 2)[0] > 0.85


def test_obliqueness_is_the_angle_to_the_nearest_axes():
    assert obliqueness_deg(make_affine("LPS")) == pytest.approx(0, abs=1e-5)
    assert obliqueness_deg(rotate(make_affine("PIR"), (0, 0, 30))) == pytest.approx(30)


@pytest.mark.parametrize("factor", [0.001, 1000])
def test_the_unit_of_the_intensities_does_not_matter(factor):
    image = make_heart()
    plain, scaled = segment(make_volume(image)), segment(make_volume(image * np.float32(factor)))
    np.testing.assert_array_equal(scaled.labels, plain.labels)


def test_intensities_below_zero_are_lifted():
    image = make_heart()
    plain, scored = segment(make_volume(image)), segment(make_volume((image - 0.4) * 3))
    assert (scored.labels == plain.labels).mean() > 0.97


def test_a_heart_in_a_larger_scan_is_found():
    shape = (70, 90, 80)
    image = make_heart(shape, share=0.55, center=(0.4, 0.55, 0.6))
    volume = make_volume(image)

    result = segment(volume)

    found, wanted = (result.labels > 0), (image > 0.3)
    assert dice_per_label(found.astype(np.uint8), wanted.astype(np.uint8), 2)[0] > 0.9
    # The place in the heart's own box decides the labels, not the place in the scan.
    middle = round(0.4 * 70)
    assert (result.labels[middle - 8] == 2).sum() > (result.labels[middle - 8] == 1).sum()
    assert (result.labels[middle + 8] == 1).sum() > (result.labels[middle + 8] == 2).sum()


def test_a_scan_without_anything_is_refused():
    def find_nothing(images):
        logits = np.zeros((*images.shape[:4], 4), np.float32)
        logits[..., 0] = 9
        return logits

    with pytest.raises(DataError, match=r"found no heart \(nothing like a heart\)"):
        segment(make_volume(make_heart()), find_nothing)


def test_a_scan_whose_views_disagree_is_refused():
    rng = np.random.default_rng(0)

    def guess(images):
        return rng.normal(0, 5, (*images.shape[:4], 4)).astype(np.float32)

    with pytest.raises(DataError, match=r"found no heart \(its views agree only to 0\.\d\d\)"):
        segment(make_volume(make_heart()), guess)


def test_ct_single_slices_and_constant_images_are_refused_in_words():
    heart = make_heart()
    ct = np.interp(heart, [0, 0.1, 0.5, 1], [-1000, -800, 40, 250]).astype(np.float32)
    with pytest.raises(DataError, match="looks like CT"):
        segment(make_volume(ct))
    with pytest.raises(DataError, match=r"expected a volume, found 3 slices"):
        segment(make_volume(heart[..., :3]))
    with pytest.raises(DataError, match="same intensity"):
        segment(make_volume(np.ones(SHAPE, np.float32)))


def test_a_volume_that_no_heart_has_is_noticed():
    labels = np.ones((20, 20, 20), np.uint8)
    agreed = np.ones(HVSMR.num_classes - 1)

    [notice] = find_notices(labels, agreed, np.diag([0.5, 0.5, 0.5, 1]), CALIBRATION)
    assert "1 mL; a heart has 20 to 2500 mL" in notice
    assert not [*find_notices(labels, agreed, np.diag([3, 3, 3, 1]), CALIBRATION)]
    # Of other structures nobody knows how large they are.
    few = LabelTable(HVSMR.structures[:4])
    assert not [*find_notices(labels, agreed[:3], np.eye(4), CALIBRATION, few)]


def test_a_network_of_other_classes_is_an_error():
    with pytest.raises(ModelError, match="expected logits of shape"):
        segment(make_volume(make_heart()), num_classes=5)


def test_stability_is_the_mean_dice_of_each_view_with_the_average():
    average = np.array([[[1, 1, 0, 2]]])
    everywhere = np.ones(average.shape, bool)
    same = (average.astype(np.uint8), everywhere)
    # One of two voxels of 1 missed: Dice 2 / 3; 2 missed: 0; 3 is in no map that counts.
    other = (np.array([[[1, 0, 0, 3]]], np.uint8), everywhere)
    blind = (average.astype(np.uint8), np.zeros(average.shape, bool))

    stability = measure_stability(average, [same, other, blind], num_classes=4)

    np.testing.assert_allclose(stability, [(1 + 2 / 3) / 2, 0.5, np.nan])


def test_all_structures_are_doubtful_where_the_whole_is():
    np.testing.assert_array_equal(
        is_doubtful(np.array([0.98, 0.74, np.nan]), CALIBRATION), [False, True, False]
    )
    np.testing.assert_array_equal(
        is_doubtful(np.array([0.85, 0.5, np.nan]), CALIBRATION), [True, True, False]
    )


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 1000.0]], np.float32)), [[0.5, 0.5]])


def test_a_view_of_a_view_is_placed_in_the_outer_one():
    inner = View((0.5, 1.0, 2.0), (0.1, 0.0, 0.0))
    outer = View((0.5, 0.5, 0.5), (0.2, -0.1, 0.0))
    assert inner.within(outer) == View((0.25, 0.5, 1.0), (0.25, -0.1, 0.0))


@pytest.fixture(scope="module")
def packaged():
    if not is_installed():
        pytest.skip("no trained model is packaged yet")
    predict = compile_volume_predict(load_packaged())
    return WholeHeartSegmenter(predict, describe_packaged().description)


@pytest.fixture(scope="module")
def pat4(hvsmr2):
    folder = hvsmr2 / "cropped_norm"
    labels = read_label_map(folder / "pat4_cropped_seg.nii.gz", HVSMR)
    return read_image(folder / "pat4_cropped_norm.nii.gz"), labels.voxels


def test_the_packaged_model_segments_a_real_heart(packaged, pat4):
    image, reference = pat4

    result = packaged.segment(image)

    # The first weights, which saw no real image, had 0.724 and a stability of 0.91.
    assert np.nanmean(dice_per_label(result.labels, reference, 9)) >= 0.65
    assert np.nanmean(result.stability) >= 0.85
    assert result.notices == ()


def test_the_packaged_model_finds_a_real_heart_in_a_larger_scan(packaged, pat4):
    image, reference = pat4
    # Twice as long along each axis, dark and noisy around the scan.
    pads = [(n // 3, n - n // 3) for n in reference.shape]
    noise = np.random.default_rng(0).normal(0, 0.03, [2 * n for n in reference.shape])
    voxels = np.abs(np.pad(image.voxels, pads) + noise).astype(np.float32)

    result = packaged.segment(Volume(voxels, image.affine, image.header))

    # Measured with the first weights: 0.63 to 0.69.
    dice = dice_per_label(result.labels, np.pad(reference, pads), 9)
    assert np.nanmean(dice) >= 0.55


def read_whole_field(hvsmr2, case):
    """Set the slices of a patient with their whole field of view into a volume."""
    with (hvsmr2 / "slices_full/mapping.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["patient"] == case]
    rows.sort(key=lambda row: int(row["slice_index_axis2"]))
    pictures = [cv2.imread(str(hvsmr2 / "slices_full/images" / row["png"]), 0) for row in rows]
    planes = np.stack([np.rot90(picture) for picture in pictures], axis=-1).astype(np.float32)
    known = [int(row["slice_index_axis2"]) for row in rows]
    reference = read_label_map(hvsmr2 / f"labels/{case}_cropped_seg.nii.gz", HVSMR)
    # Between the known slices the picture fades from one to the next.
    between = interpolate.interp1d(
        known, planes, bounds_error=False, fill_value=(planes[..., 0], planes[..., -1])
    )
    side = len(planes)
    top, bottom, left, right = (int(rows[0][key]) for key in ("row0", "row1", "col0", "col1"))
    crop = (slice(side - right, side - left), slice(top, bottom))
    voxels = between(np.arange(reference.voxels.shape[2])).astype(np.float32)
    affine = reference.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [crop[0].start, crop[1].start, 0]
    return Volume(voxels, affine, reference.header), reference.voxels, crop, known


def test_the_packaged_model_finds_a_heart_in_a_whole_field_of_view(packaged, hvsmr2):
    image, reference, crop, known = read_whole_field(hvsmr2, "pat0")

    heart = packaged.segment(image).labels > 0

    # A search from all of the scan alone (both stages): 0.75, 0.41 of the labels outside the crop.
    inside = heart[crop]
    assert inside.sum() == heart.sum()
    found = inside[..., known].astype(np.uint8)
    true = (reference[..., known] > 0).astype(np.uint8)
    assert dice_per_label(found, true, 2) >= 0.87


def test_the_packaged_model_refuses_shuffled_voxels(packaged, pat4):
    image, _ = pat4
    shuffled = np.random.default_rng(0).permutation(image.voxels.ravel())

    with pytest.raises(DataError, match="found no heart"):
        packaged.segment(Volume(shuffled.reshape(image.voxels.shape), image.affine, image.header))


def test_without_a_calibration_nothing_is_called_doubtful_or_hopeless():
    stability = np.array([0.3, 0.5, np.nan])
    assert not is_doubtful(stability, None).any()
    labels = np.ones((10, 10, 10), np.uint8)
    affine = np.diag([5.0, 5.0, 5.0, 1.0])  # 125 mL
    assert list(find_notices(labels, stability, affine, None)) == []
    (notice,) = find_notices(labels, stability, affine, CALIBRATION)
    assert "agree only to 0.40 (0.93 or more" in notice


def test_how_large_a_heart_is_is_known_of_the_structures_of_hvsmr_only():
    labels, stability = np.ones((10, 10, 10), np.uint8), np.array([0.9])
    tiny = np.diag([0.5, 0.5, 0.5, 1.0])  # 0.125 mL
    (notice,) = find_notices(labels, stability, tiny, None, HVSMR)
    assert notice.startswith("the blood of all structures has 0.125 mL")
    assert list(find_notices(labels, stability, tiny, None, ACDC)) == []
    with_muscle = LabelTable((*HVSMR.structures, Structure(9, "MYO", "myocardium", (1, 2, 3))))
    labels[:, :, 2:] = 9
    coarse = np.diag([5.0, 5.0, 5.0, 1.0])  # 125 mL, of which 25 mL blood
    assert list(find_notices(labels, stability, coarse, None, with_muscle)) == []
    labels[:, :, 1:] = 9
    (notice,) = find_notices(labels, stability, coarse, None, with_muscle)
    assert "12.5 mL" in notice
