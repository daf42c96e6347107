"""Which images are one volume: a regular grid, or a refusal that says why."""

import numpy as np
import pydicom
import pytest
from builders import make_affine, rotate
from dicom_builders import ds, make_base, make_classic, make_enhanced, save, sequence, set_pixels

from heartseg.errors import DataError
from heartseg.scans.dicom import read_dicom
from heartseg.scans.dicom_series import find_series

SPACING = (0.9, 1.1, 2.5)
VOXELS = np.random.default_rng(1).integers(0, 4000, (12, 10, 8)).astype(np.uint16)
AFFINE = rotate(make_affine("LPS", SPACING))


def write(folder, datasets):
    for number, dataset in enumerate(datasets):
        save(dataset, folder / f"{number:03d}.dcm")
    return folder


def move(dataset, offset_mm):
    """Shift an image in the patient."""
    position = np.array(dataset.ImagePositionPatient, float) + offset_mm
    dataset.ImagePositionPatient = ds(position)


def normal_of(dataset):
    across, down = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    return np.cross(across, down)


def check_refused(path, problem):
    with pytest.raises(DataError, match=rf'series 3 "whole heart": .*{problem}') as caught:
        read_dicom(path)
    assert "\n" not in str(caught.value)


def test_a_missing_slice_is_found_by_its_gap(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    del series[3]
    check_refused(
        write(tmp_path, series),
        "slices are missing: between slices 3 and 4 of 7 the gap is 5.00 mm and elsewhere 2.50 mm",
    )


def test_two_missing_slices_are_found_too(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    del series[3:5]
    check_refused(write(tmp_path, series), "the gap is 7.50 mm and elsewhere 2.50 mm")


@pytest.mark.parametrize("shift_mm", [0.1, 0.6, -0.9])
def test_unequal_gaps_are_refused(tmp_path, shift_mm):
    series = make_classic(VOXELS, AFFINE)
    move(series[4], shift_mm * normal_of(series[4]))
    check_refused(write(tmp_path, series), "its slices are unequally spaced, ")


def test_positions_rounded_to_hundredths_are_accepted(tmp_path):
    series = make_classic(VOXELS, make_affine("LPS", (0.9, 1.1, 0.7)))
    for dataset in series:
        dataset.ImagePositionPatient = [f"{float(x):.2f}" for x in dataset.ImagePositionPatient]
    np.testing.assert_allclose(read_dicom(write(tmp_path, series)).spacing_mm[2], 0.7, atol=0.003)


def test_a_tilted_stack_is_refused_with_its_angle(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    for z, dataset in enumerate(series):
        down = np.array(dataset.ImageOrientationPatient[3:], float)
        # 2.5 mm on, tan(10 degrees) x 2.5 mm sideways.
        move(dataset, z * 2.5 * np.tan(np.deg2rad(10)) * down)
    check_refused(
        write(tmp_path, series), "shifted against each other, a tilt of 10.0 degrees; expected"
    )


def test_a_slice_that_is_shifted_sideways_is_refused(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    move(series[4], 0.4 * np.array(series[4].ImageOrientationPatient[:3], float))
    check_refused(write(tmp_path, series), "its slices are shifted against each other$")


def test_direction_cosines_of_five_digits_keep_every_position(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    for dataset in series:
        cosines = dataset.ImageOrientationPatient
        dataset.ImageOrientationPatient = [f"{float(cosine):.5f}" for cosine in cosines]
    affine = read_dicom(write(tmp_path, series)).affine
    np.testing.assert_allclose(affine[:3, 2], AFFINE[:3, 2], atol=1e-6)
    np.testing.assert_allclose(affine, AFFINE, atol=1e-4)


def test_the_phases_of_a_cine_are_refused(tmp_path):
    series = []
    for phase in range(3):
        for dataset in make_classic(VOXELS, AFFINE):
            dataset.TriggerTime = str(phase * 33.5)
            series.append(dataset)
    check_refused(
        write(tmp_path, series),
        r"it holds 3 images at each of 8 positions, phases of the heart beat \(a cine\); expected",
    )


def test_the_phases_of_a_multi_frame_cine_are_refused(tmp_path):
    dataset = make_enhanced(VOXELS, AFFINE, order=[*range(8), *range(8)])
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.CardiacSynchronizationSequence = sequence(
            NominalCardiacTriggerDelayTime=30.0 * (index // 8)
        )
    save(dataset, tmp_path / "a.dcm")
    check_refused(tmp_path, r"2 images at each of 8 positions, phases of the heart beat \(a cine\)")


def test_one_slice_over_time_is_refused(tmp_path):
    series = [make_classic(VOXELS[:, :, :1], AFFINE)[0] for _ in range(5)]
    for phase, dataset in enumerate(series):
        dataset.TriggerTime = str(phase * 33.5)
    check_refused(write(tmp_path, series), "5 images at each of 1 positions, phases of the heart")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"EchoTime": "4.9"}, "echoes"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "kinds of image, such as magnitude"),
        ({"AcquisitionNumber": "2"}, "acquisitions"),
        ({}, "copies or repetitions"),
    ],
)
def test_doubled_positions_are_refused_with_what_differs(tmp_path, values, what):
    first = make_classic(VOXELS, AFFINE, EchoTime="2.1", AcquisitionNumber="1")
    second = make_classic(VOXELS, AFFINE, **{"EchoTime": "2.1", "AcquisitionNumber": "1"} | values)
    check_refused(
        write(tmp_path, first + second), f"it holds 2 images at each of 8 positions, {what}"
    )


def test_a_single_doubled_position_is_refused(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    extra = make_classic(VOXELS, AFFINE)[5]
    check_refused(write(tmp_path, [*series, extra]), "up to 2 images at 1 of 8 positions, copies")


def test_a_localizer_is_refused_with_its_orientations(tmp_path):
    series = [
        dataset
        for axes in ("LPS", "PIL", "LIP")
        for dataset in make_classic(VOXELS[:, :, :2], make_affine(axes, SPACING))
    ]
    check_refused(write(tmp_path, series), "its images lie in 3 orientations, as those of a local")


def test_a_single_slice_is_refused(tmp_path):
    write(tmp_path, make_classic(VOXELS[:, :, :1], AFFINE))
    check_refused(tmp_path, "it holds a single slice; expected a volume")
    (series,) = find_series(tmp_path)
    assert (series.num_slices, series.spacing_mm) == (1, None)


def test_two_slices_are_a_volume(tmp_path):
    volume = read_dicom(write(tmp_path, make_classic(VOXELS[:, :, :2], AFFINE)))
    np.testing.assert_array_equal(volume.voxels, VOXELS[:, :, :2])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"Modality": "CT"}, "its images are of the modality CT, and heartseg reads MR"),
        ({"Modality": "Doe Jane 1"}, r"its images are of the modality \(unknown\)"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "its images are in colour"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "stored as MONOCHROME1; expected MONO"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "stored as PALETTE COLOR; expected MONO"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "its images are mosaics, which"),
        ({"PixelSpacing": None}, "an image has no pixel spacing"),
        ({"PixelSpacing": ["0", "1"]}, "an image has no pixel spacing"),
        ({"ImageOrientationPatient": None}, "has no position or orientation in the patient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not perpendicular unit vectors"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "not perpendicular unit vectors"),
        ({"ModalityLUTSequence": sequence(ModalityLUTType="US")}, "pass through a lookup table"),
        ({"BitsAllocated": 64}, "its values have 64 bits; expected 8, 16 or 32"),
        ({"PixelSpacing": ["1e6", "1e6"]}, "the header claims a spacing of 1e.06"),
    ],
)
def test_what_is_no_plain_mr_volume_is_refused(tmp_path, change, problem):
    series = make_classic(VOXELS, AFFINE)
    with pydicom.config.disable_value_validation():
        for dataset in series:
            for key, value in change.items():
                # An element keeps the validation that it was made with.
                del dataset[key if key in dataset else "StudyID"]
                setattr(dataset, key, value)
    check_refused(write(tmp_path, series), problem)


def test_screenshots_are_refused_for_want_of_a_position(tmp_path):
    capture = make_base("1.2.840.10008.5.1.4.1.1.7")
    set_pixels(capture, np.zeros((10, 12), np.uint16))
    check_refused(write(tmp_path, [capture]), r"are screenshots \(secondary captures\): they have")


def test_images_without_a_position_are_refused(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    for dataset in series:
        del dataset.ImagePositionPatient
    check_refused(write(tmp_path, series), "its images do not say where they lie")


def test_images_that_differ_in_size_or_spacing_are_refused(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    set_pixels(series[2], np.zeros((4, 5), np.uint16))
    check_refused(write(tmp_path / "a", series), r"differ in size \(4 x 5 and 10 x 12 pixels\)")
    series = make_classic(VOXELS, AFFINE)
    series[2].PixelSpacing = ["1.2", "0.9"]
    check_refused(write(tmp_path / "b", series), "its images differ in pixel spacing")


def test_images_of_two_coordinate_systems_are_refused(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    series[2].FrameOfReferenceUID = pydicom.uid.generate_uid()
    check_refused(write(tmp_path, series), "lie in different coordinate systems")


def test_orientations_that_differ_by_rounding_are_one(tmp_path):
    series = make_classic(VOXELS, AFFINE)
    cosines = np.array(series[2].ImageOrientationPatient, float)
    series[2].ImageOrientationPatient = ds(cosines + 2e-6)
    np.testing.assert_allclose(read_dicom(write(tmp_path, series)).affine, AFFINE, atol=1e-4)
