import numpy as np
import pytest

from heartseg.synthesis.phantom_anatomy import LV, build_anatomy
from heartseg.synthesis.phantom_appearance import Tissues, _Canvas, render_image
from heartseg.synthesis.phantom_plan import Heart
from heartseg.synthesis.shapes import build_grid


@pytest.fixture(scope="module")
def grid():
    return build_grid((40, 48, 45), (2.6, 2.6, 2.6), np.random.default_rng(0), bend_mm=0.0)


@pytest.fixture(scope="module")
def anatomy(grid):
    return build_anatomy(grid, Heart("mild", missing=None, inverted=False, seed=5))


def test_a_tissue_is_painted_by_its_fraction_of_each_voxel(grid):
    signal = np.full((1, 1, 5), 0.2, np.float32)
    canvas = _Canvas(grid, signal, 2.0, np.random.default_rng(0), Tissues())

    canvas.paint(np.array([[[-2.0, -0.5, 0.0, 0.5, 2.0]]], np.float32), 1.0)

    # Voxels of 2 mm: half a millimetre inside, three quarters of the voxel are tissue.
    fractions = np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    np.testing.assert_allclose(signal[0, 0], 0.2 + 0.8 * fractions, rtol=1e-6)


def test_a_weaker_tissue_never_fills_a_voxel_and_a_wide_one_mixes_further(grid):
    signal = np.zeros((1, 1, 2), np.float32)
    canvas = _Canvas(grid, signal, 2.0, np.random.default_rng(0), Tissues())

    canvas.paint(np.array([[[-9.0, 1.0]]], np.float32), 1.0, width=2.0, strength=0.8)

    np.testing.assert_allclose(signal[0, 0], [0.8, 0.25], rtol=1e-6)


def test_blood_is_the_brightest_tissue_of_every_heart():
    for seed in range(50):
        tissues = Tissues.draw(np.random.default_rng(seed))
        assert tissues.blood > max(tissues.muscle, tissues.wall, tissues.fat, tissues.lung)


def test_blood_is_bright_and_lung_is_dark(grid, anatomy):
    image = render_image(grid, anatomy, np.random.default_rng(1), voxel_mm=2.6)
    assert image.shape == grid.shape
    assert image.dtype == np.float64
    assert 0.65 < np.median(image[anatomy.chambers[LV] < -3]) < 0.95
    assert np.percentile(image, 5) < 0.2


def test_an_image_follows_from_its_generator(grid, anatomy):
    first, again, other = (
        render_image(grid, anatomy, np.random.default_rng(seed), voxel_mm=2.6) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01
