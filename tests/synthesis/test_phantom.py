from functools import cache

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from heartseg.labels import HVSMR
from heartseg.synthesis.phantom import Phantom, make_phantom
from heartseg.synthesis.phantom_anatomy import build_anatomy

SEED = 7
LV, RV, LA, RA, AO, PA, SVC, IVC = range(1, 9)
PRESENT = {None: {*range(1, 9)}, "RV": {*range(1, 9)} - {RV}, "RA": {*range(1, 9)} - {RA}}


@cache
def phantom(patient: int = 0, size: int = 64, seed: int = SEED) -> Phantom:
    return make_phantom(seed, patient, size=size)


def centre(labels: np.ndarray, label: int) -> np.ndarray:
    """Mean position along posterior, inferior, right."""
    return np.argwhere(labels == label).mean(axis=0)


def touch(labels: np.ndarray, one: int, other: int) -> int:
    """Number of voxels of one structure that have a face in common with the other."""
    return int((ndimage.binary_dilation(labels == one) & (labels == other)).sum())


def test_equal_arguments_give_equal_arrays():
    first, second = make_phantom(3, 1, size=32), make_phantom(3, 1, size=32)

    assert first.image.tobytes() == second.image.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.endpoints.tobytes() == second.endpoints.tobytes()
    np.testing.assert_array_equal(first.affine, second.affine)


def test_patients_and_seeds_differ():
    volumes = {
        tuple(np.bincount(make_phantom(seed, patient, size=32).labels.ravel(), minlength=9))
        for seed, patient in ((3, 1), (3, 2), (4, 1))
    }
    assert len(volumes) == 3


@pytest.mark.parametrize("size", [32, 47, 64])
def test_the_grid_is_anisotropic_in_pir_orientation_with_three_lengths(size):
    for patient in range(3):
        made = phantom(patient, size)
        spacing_mm = np.linalg.norm(made.affine[:3, :3], axis=0)

        assert max(made.image.shape) == size
        assert len(set(made.image.shape)) == 3
        assert min(made.image.shape) > size / 2
        assert nibabel.aff2axcodes(made.affine) == ("P", "I", "R")
        assert spacing_mm[0] == pytest.approx(spacing_mm[1])
        assert abs(spacing_mm[2] / spacing_mm[0] - 1) > 0.03


def test_types_are_those_of_the_data_set():
    made = phantom()

    assert made.image.dtype == np.float64
    assert made.labels.dtype == made.endpoints.dtype == np.int16
    assert made.image.shape == made.labels.shape == made.endpoints.shape


@pytest.mark.parametrize("patient", [*range(4), 14])
def test_every_structure_that_is_not_missing_is_large_enough_to_learn(patient):
    made = phantom(patient)
    counts = np.bincount(made.labels.ravel(), minlength=HVSMR.num_classes)

    assert set(np.flatnonzero(counts)) - {0} == PRESENT[made.missing]
    assert counts[counts > 0].min() >= 250


@pytest.mark.parametrize("patient", range(3))
def test_structures_lie_as_in_a_chest(patient):
    labels = phantom(patient).labels
    at = {label: centre(labels, label) for label in range(1, 9)}

    assert at[LV][2] < at[RV][2] < at[RA][2]  # from left to right
    assert at[RV][0] < at[LV][0] < at[LA][0]  # from front to back
    assert at[SVC][1] < at[RA][1] < at[IVC][1]  # from top to bottom
    assert max(at[AO][1], at[PA][1]) < min(at[LV][1], at[RV][1])


@pytest.mark.parametrize("patient", range(3))
def test_vessels_leave_and_enter_their_chambers(patient):
    labels = phantom(patient).labels

    # At least a few voxels each: at this size a valve is about ten voxels wide.
    for pair in ((AO, LV), (PA, RV), (SVC, RA), (IVC, RA), (LA, LV), (RA, RV)):
        assert touch(labels, *pair) >= 10, pair


@pytest.mark.parametrize("patient", range(3))
def test_a_septum_separates_the_ventricles(patient):
    assert touch(phantom(patient).labels, LV, RV) == 0


@pytest.mark.parametrize("patient", range(3))
def test_each_structure_is_mostly_one_connected_component(patient):
    labels = phantom(patient).labels
    for label in range(1, 9):
        components, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())[1:]
        # The tip of a ventricle or an appendage may be cut off by its neighbours.
        assert sizes.max() >= 0.8 * sizes.sum(), label


def test_muscle_around_the_left_ventricle_is_darker_than_its_blood():
    made = phantom()
    blood = made.labels == LV
    shell = ndimage.binary_dilation(blood, iterations=3) & ~ndimage.binary_dilation(blood)
    muscle = shell & (made.labels == 0)

    assert np.median(made.image[muscle]) < 0.65 * np.median(made.image[blood])


@pytest.mark.parametrize("patient", range(4))
def test_intensities_are_normalised_but_not_bounded(patient):
    image = phantom(patient).image

    assert np.isfinite(image).all()
    assert -0.05 < image.min() < 0.01
    assert 1.1 < image.max() < 4
    # Blood near 0.8, as in the data set.
    assert 0.65 < np.median(image[phantom(patient).labels > 0]) < 1.0


def test_voxels_at_boundaries_are_mixed():
    made = phantom()
    blood = made.labels == LV
    inner = ndimage.binary_erosion(blood, iterations=2)
    edge = blood & ~ndimage.binary_erosion(blood)

    assert made.image[edge].mean() < made.image[inner].mean() - 0.05


@pytest.mark.parametrize("patient", [0, 3, 14])
def test_endpoint_zones_overlap_their_structure_and_background_only(patient):
    made = phantom(patient)

    assert set(np.unique(made.endpoints)) <= {0, LA, AO, PA, SVC, IVC}
    for label in (LA, PA, SVC, IVC):
        zone = made.endpoints == label
        assert 0 < (zone & (made.labels == label)).sum() < (made.labels == label).sum() / 2
        assert not (zone & (made.labels != label) & (made.labels != 0)).any()


@pytest.mark.parametrize("seed", range(3))
def test_one_patient_in_eight_lacks_a_ventricle_or_an_atrium(seed):
    missing = [make_phantom(seed, patient, size=32).missing for patient in range(8)]

    assert sum(entry is not None for entry in missing) == 1
    # The smallest cohorts have every structure.
    assert missing[:3] == [None] * 3


def test_both_kinds_of_missing_structure_occur_and_are_severe():
    made = [phantom(3), phantom(14)]

    assert {entry.missing for entry in made} == {"RV", "RA"}
    assert {entry.category for entry in made} == {"severe"}


def test_inverted_ventricles_change_sides(monkeypatch):
    hearts = []

    def remember(grid, heart):
        hearts.append((heart, grid))
        return build_anatomy(grid, heart)

    monkeypatch.setattr("heartseg.synthesis.phantom.build_anatomy", remember)
    made = {patient: make_phantom(SEED, patient, size=32) for patient in range(16, 24)}
    inverted = [patient for patient, (heart, _) in zip(made, hearts, strict=True) if heart.inverted]

    assert len(inverted) == 1
    labels = made[inverted[0]].labels
    assert centre(labels, LV)[2] > centre(labels, RV)[2]
    assert touch(labels, LA, RV) > 0
    assert touch(labels, AO, RV) > 0


def test_finer_voxels_show_the_same_heart():
    coarse, fine = phantom(0, 32), phantom(0, 64)
    fractions = [
        np.bincount(made.labels.ravel(), minlength=9)[1:] / made.labels.size
        for made in (coarse, fine)
    ]
    np.testing.assert_allclose(fractions[0], fractions[1], rtol=0.3)


@pytest.mark.parametrize("arguments", [(-1, 0, 64), (0, -1, 64), (0, 0, 31)])
def test_arguments_out_of_range_are_refused(arguments):
    seed, patient, size = arguments
    with pytest.raises(ValueError, match="size >= 32"):
        make_phantom(seed, patient, size=size)
