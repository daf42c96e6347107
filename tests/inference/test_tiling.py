import numpy as np
import pytest

from heartseg.inference.tiling import TileGrid, build_canvas, needs_tiles
from heartseg.scans.geometry import SliceGrid


def test_tiles_are_spread_evenly_with_at_least_the_overlap_asked_for():
    tiles = TileGrid.cover((20, 8), (8, 8), overlap=0.25)

    # Steps of at most 6 over 12: three tiles in a column, one in a row.
    assert tiles.corners == ((0, 0), (6, 0), (12, 0))


def test_without_overlap_tiles_lie_side_by_side():
    assert TileGrid.cover((16, 24), (8, 8), overlap=0).corners == (
        *((0, 0), (0, 8), (0, 16)),
        *((8, 0), (8, 8), (8, 16)),
    )


@pytest.mark.parametrize("canvas", [(16, 16), (17, 40), (61, 23)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.9])
def test_blended_tiles_of_a_slice_are_the_slice(canvas, overlap):
    slice_ = np.random.default_rng(1).integers(0, 256, canvas).astype(np.uint8)
    tiles = TileGrid.cover(canvas, (16, 16), overlap=overlap)

    probabilities = [tile[..., np.newaxis] / np.float32(255) for tile in tiles.cut(slice_)]
    blended = tiles.blend(probabilities)

    np.testing.assert_allclose(blended[..., 0], slice_ / 255, rtol=1e-5)


def test_the_seam_between_disagreeing_tiles_is_smooth():
    tiles = TileGrid.cover((32, 56), (32, 32), overlap=0.25)
    answers = [np.zeros((32, 32, 1), np.float32), np.ones((32, 32, 1), np.float32)]

    row = tiles.blend(answers)[16, :, 0]

    assert row[0] == 0
    assert row[-1] == 1
    # 8 pixels overlap: a hard seam would jump by 1, an even average by 0.5.
    assert np.all(np.diff(row) >= 0)
    assert np.diff(row).max() < 0.35


@pytest.mark.parametrize(
    ("canvas", "overlap", "message"), [((8, 7), 0.25, "8 pixels"), ((8, 8), 1, "overlap")]
)
def test_what_cannot_be_covered_is_refused(canvas, overlap, message):
    with pytest.raises(ValueError, match=message):
        TileGrid.cover(canvas, (8, 8), overlap=overlap)


def test_a_stretched_slice_is_tiled_at_the_resolution_of_the_scan():
    grid = SliceGrid((20, 100), (64, 64), (64, 64))

    assert needs_tiles(grid, stretched=True)
    assert build_canvas(grid, stretched=True) == SliceGrid((20, 100), (20, 100), (64, 100))


def test_a_padded_slice_is_tiled_at_the_resolution_of_the_recipe():
    large = SliceGrid((30, 30), (90, 60), (64, 64))

    assert needs_tiles(large, stretched=False)
    assert build_canvas(large, stretched=False) == SliceGrid((30, 30), (90, 60), (90, 64))
    assert not needs_tiles(SliceGrid((100, 100), (50, 64), (64, 64)), stretched=False)
