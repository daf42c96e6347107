import numpy as np
import pytest
from scipy import ndimage

from heartseg.synthesis.phantom import make_phantom
from heartseg.synthesis.scene import SCENE_GRID, Tissue, merge_cavities, paint_scene


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 0, size=48)


@pytest.fixture(scope="module")
def spacing_mm(phantom):
    return tuple(float(v) for v in np.linalg.norm(phantom.affine[:3, :3], axis=0))


def paint(phantom, spacing_mm, seed=0):
    return paint_scene(phantom.labels, spacing_mm, np.random.default_rng(seed))


def test_the_heart_of_a_scene_is_that_of_the_label_map(phantom, spacing_mm):
    scene = paint(phantom, spacing_mm)
    assert scene.labels.shape == scene.tissues.shape == SCENE_GRID
    np.testing.assert_array_equal(scene.tissues[scene.labels > 0], scene.labels[scene.labels > 0])
    assert not np.isin(scene.tissues[scene.labels == 0], range(1, 9)).any()
    shares = np.bincount(scene.labels.ravel(), minlength=9) / scene.labels.size
    expected = np.bincount(phantom.labels.ravel(), minlength=9) / phantom.labels.size
    np.testing.assert_allclose(shares, expected, rtol=0.1)


def test_muscle_surrounds_the_left_ventricle(phantom, spacing_mm):
    scene = paint(phantom, spacing_mm)
    rim = ndimage.binary_dilation(scene.labels == 1) & (scene.labels == 0)
    assert (scene.tissues[rim] == Tissue.LV_MUSCLE).mean() > 0.95


def test_a_chest_has_lungs_spine_liver_and_skin(phantom, spacing_mm):
    found = set()
    for seed in range(4):
        found |= set(np.unique(paint(phantom, spacing_mm, seed).tissues))
    assert {Tissue.LUNG, Tissue.SPINE, Tissue.LIVER, Tissue.MUSCLE, Tissue.VESSEL} <= found


def test_a_scene_follows_from_its_seed(phantom, spacing_mm):
    first, again, other = (paint(phantom, spacing_mm, seed).tissues for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.05


def test_the_size_in_mm_does_not_change_the_look(phantom, spacing_mm):
    small = tuple(0.5 * mm for mm in spacing_mm)
    same = paint(phantom, spacing_mm).tissues == paint(phantom, small).tissues
    assert same.mean() > 0.999


def test_some_hearts_lose_a_structure(phantom, spacing_mm):
    kept = [set(np.unique(paint(phantom, spacing_mm, seed).labels)) for seed in range(16)]
    whole = set(np.unique(phantom.labels))
    assert whole in kept
    assert any(labels < whole for labels in kept)


def test_merged_cavities_are_one_without_a_septum():
    labels = np.zeros((12, 9, 9), np.uint8)
    labels[1:4, 2:7, 2:7], labels[6:10, 2:7, 2:7], labels[11, 4, 4] = 3, 4, 7
    merged = merge_cavities(labels, 3, 4, (2.0, 2.0, 2.0), septum_mm=7.0)
    assert set(np.unique(merged)) == {0, 3, 7}
    assert (merged[1:10, 2:7, 2:7] == 3).all()
    # What does not lie between them stays as it was.
    np.testing.assert_array_equal(merged[[0, 10, 11]], labels[[0, 10, 11]])
    apart = merge_cavities(labels, 3, 4, (2.0, 2.0, 2.0), septum_mm=5.0)
    np.testing.assert_array_equal(apart, np.where(labels == 4, 3, labels))


def test_without_a_heart_there_is_no_scene():
    with pytest.raises(ValueError, match="with a heart"):
        paint_scene(np.zeros((9, 9, 9), np.uint8), (1.0, 1.0, 1.0), np.random.default_rng(0))
