"""Headers that contradict themselves or say nothing, as files of scans and of label maps."""

import logging
import re

import nibabel
import numpy as np
import pytest
from builders import SHAPE, make_affine

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.scans.volume import read_image, read_label_map

VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) % 9


def save(file, voxels=VOXELS, affine=None, *, codes=(1, 1), units="mm", qform=None):
    image = nibabel.Nifti1Image(voxels, make_affine() if affine is None else affine)
    image.set_qform(image.affine if qform is None else qform, codes[0])
    image.set_sform(image.affine, codes[1])
    image.header.set_xyzt_units(units)
    # As bytes: nibabel's own saving would set the codes again.
    file.write_bytes(image.to_bytes())
    return file


def test_a_usual_header_says_nothing(tmp_path, caplog):
    volume = read_image(save(tmp_path / "a.nii"))

    np.testing.assert_allclose(volume.affine, make_affine(), atol=1e-6)
    assert caplog.messages == []


@pytest.mark.parametrize("extra", [(1,), (1, 1), (1, 1, 1)])
def test_one_frame_is_a_volume(tmp_path, extra):
    file = save(tmp_path / "a.nii", VOXELS.reshape(SHAPE + extra))

    assert read_image(file).voxels.shape == SHAPE
    labels = read_label_map(file, HVSMR)
    np.testing.assert_array_equal(labels.voxels, VOXELS)
    assert labels.header.get_data_shape() == SHAPE


def test_several_frames_are_refused(tmp_path):
    file = save(tmp_path / "a.nii", np.stack([VOXELS, VOXELS], axis=-1))

    with pytest.raises(DataError, match=r"expected a 3D volume, found the shape \(14, 11, 9, 2\)"):
        read_image(file)


@pytest.mark.parametrize(("units", "factor"), [("micron", 1e3), ("meter", 1e-3)])
@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1)])
def test_other_units_become_millimetres(tmp_path, units, factor, codes):
    scaled = np.diag([factor, factor, factor, 1.0]) @ make_affine()

    volume = read_image(save(tmp_path / "a.nii", affine=scaled, units=units, codes=codes))

    np.testing.assert_allclose(volume.affine, make_affine(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(volume.spacing_mm, (0.8, 1.5, 1.1), rtol=1e-5)
    assert volume.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(volume.header.get_zooms(), (0.8, 1.5, 1.1), rtol=1e-5)


def test_without_a_form_the_assumed_orientation_is_said(tmp_path, caplog):
    volume = read_image(save(tmp_path / "a.nii", codes=(0, 0)))

    assert nibabel.aff2axcodes(volume.affine) == ("L", "A", "S")
    (message,) = caplog.messages
    assert "a.nii: the header has neither qform nor sform" in message
    assert "toward left, anterior and superior" in message


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        # Place: 40 mm. Scale: 14 voxels of 0.8 mm along the first axis, doubled. Handedness.
        (lambda a: a + np.pad([[40.0], [0], [0], [0]], ((0, 0), (3, 0))), r"40\.0"),
        (lambda a: a @ np.diag([2.0, 1, 1, 1]), r"\d+\.\d"),
        (lambda a: np.diag([-1.0, 1, 1, 1]) @ a, r"\d+\.\d"),
    ],
)
def test_forms_that_disagree_are_said_and_the_sform_counts(tmp_path, caplog, change, apart):
    file = save(tmp_path / "a.nii", qform=change(make_affine()))

    with caplog.at_level(logging.WARNING):
        volume = read_image(file)

    np.testing.assert_allclose(volume.affine, make_affine(), atol=1e-6)
    (message,) = caplog.messages
    assert "a.nii: qform and sform disagree by" in message
    assert "heartseg uses the sform" in message
    assert re.search(rf"disagree by {apart} mm at a corner", message)
