import nibabel
import numpy as np
import pytest

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


def test_a_preview_shows_at_most_the_requested_number_of_slices():
    volume = Volume(np.ones((30, 8, 9), np.float32), AFFINE, nibabel.Nifti1Header())

    sheet = preview_sheet(
        volume, np.zeros((30, 8, 9), np.uint8), HVSMR, plane="sagittal", limits=(0, 1), columns=6
    )

    assert sheet.shape == (4 * 160, 6 * 160, 3)
    # 9 x 4 mm high and 8 x 2 mm wide: black beside each slice.
    tile = sheet[:160, :160, 0]
    assert (tile == 255).all(axis=0).sum() == round(160 * 16 / 36)
