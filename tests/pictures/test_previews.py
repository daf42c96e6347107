import nibabel
import numpy as np
import pytest
from builders import make_affine, rotate

from heartseg.labels import HVSMR
from heartseg.pictures.previews import preview_sheet, to_true_aspect
from heartseg.scans.volume import Volume

# 1 mm to the right, 2 mm to the front, 4 mm upwards.
AFFINE = np.diag([1.0, 2.0, 4.0, 1.0])


@pytest.mark.parametrize(
    ("spacing_mm", "shape"), [((1.0, 1.0), (50, 100)), ((4.0, 1.0), (100, 50)), ((1, 2), (25, 100))]
)
def test_pixels_become_square(spacing_mm, shape):
    picture = np.zeros((40, 80, 3), np.uint8)

    assert to_true_aspect(picture, spacing_mm, longest_side=100).shape == (*shape, 3)


SHAPE, SPACING_MM = (100, 60, 88), (0.4, 0.75, 0.55)
LV, AO = (tuple(HVSMR.display_palette[value].tolist()) for value in (1, 5))


def make_balls(affine):
    """A ball of 8 mm, and in each plane through it a small one toward right, front and top."""
    index = np.stack(np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    center = affine[:3, :3] @ (np.array(SHAPE) / 2) + affine[:3, 3]
    labels = np.zeros(SHAPE, np.uint8)
    labels[np.linalg.norm(world - center, axis=-1) <= 8] = 1
    for offset in ([0, 9, 9], [9, 0, 9], [9, 9, 0]):
        labels[np.linalg.norm(world - center - offset, axis=-1) <= 4] = 5
    return Volume(np.full(SHAPE, 0.5, np.float32), affine, nibabel.Nifti1Header()), labels


def border_box(picture, color):
    """Return top, bottom, left and right of the pixels of a colour."""
    rows, cols = np.nonzero((picture == color).all(axis=-1))
    return rows.min(), rows.max(), cols.min(), cols.max()


@pytest.mark.parametrize(
    "affine",
    [
        make_affine("PIR", SPACING_MM),
        make_affine("LAS", SPACING_MM),
        rotate(make_affine("PIR", SPACING_MM), (25.0, -20.0, 15.0)),
    ],
    ids=["straight", "other axes", "oblique"],
)
def test_a_preview_shows_a_ball_round_and_the_patients_right_on_the_left(affine):
    volume, labels = make_balls(affine)

    sheet = preview_sheet(volume, labels, HVSMR, plane="axial", limits=(0, 1))

    assert sheet.shape[1] == 1260
    # As wide as it is deep and high: the three planes have equal widths.
    for position, small_is_right in enumerate((False, False, True)):
        plane = sheet[:400, position * 420 : (position + 1) * 420]
        top, bottom, left, right = border_box(plane, LV)
        assert right - left == pytest.approx(bottom - top, rel=0.12)
        small = border_box(plane, AO)
        assert small[0] < top
        assert (small[3] > right) if small_is_right else (small[2] < left)


def test_a_preview_has_six_tiles_from_end_to_end_of_the_heart():
    volume, labels = make_balls(make_affine("RAS", SPACING_MM))

    sheet = preview_sheet(volume, labels, HVSMR, plane="axial", limits=(0, 1))

    tiles = [sheet[430:600, left : left + 210] for left in range(0, 1260, 210)]
    seen = [
        [color in map(tuple, tile.reshape(-1, 3).tolist()) for color in (LV, AO)] for tile in tiles
    ]
    # Of 21 mm the large ball takes the first 16, the small ones 4 to 12 and 13 to 21; tiles lie at
    # 1.8, 5.3, 8.8, 12.3, 15.8 and 19.3 mm.
    assert seen == [
        [True, False],
        [True, True],
        [True, True],
        [True, False],
        [True, True],
        [False, True],
    ]


def test_a_preview_crops_to_the_heart():
    """A far corner of the scan, bright as nothing else, is not shown."""
    volume, labels = make_balls(make_affine("RAS", (2.5, 2.5, 2.5)))
    volume.voxels[:3, :3, :3] = 2

    sheet = preview_sheet(volume, labels, HVSMR, plane="coronal", limits=(0, 2))

    gray = (sheet[:400] == sheet[:400, :, :1]).all(axis=-1)
    assert np.median(sheet[:400][gray]) == 64


@pytest.mark.parametrize("shape", [(8, 1, 9), (3, 4, 5)])
def test_a_preview_without_any_label_shows_the_whole_scan(shape):
    volume = Volume(np.ones(shape, np.float32), AFFINE, nibabel.Nifti1Header())

    sheet = preview_sheet(volume, np.zeros(shape, np.uint8), HVSMR, plane="sagittal", limits=(0, 1))

    assert sheet.shape[1] == 1260
    for left in range(0, 1260, 210):
        assert (sheet[:-60, left : left + 210] == 255).all(axis=-1).mean() > 0.01
