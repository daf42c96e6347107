import numpy as np

from heartseg.inference.postprocess import clean_up, keep_largest_components
from heartseg.label_tables import ACDC
from heartseg.labels import HVSMR, LabelTable, Structure


def test_only_the_largest_component_of_each_structure_stays():
    labels = np.zeros((10, 12, 14), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[8, 8, 8] = 1
    labels[6:8, 1:5, 9:12] = 2

    cleaned = keep_largest_components(labels)

    expected = labels.copy()
    expected[8, 8, 8] = 0
    np.testing.assert_array_equal(cleaned, expected)
    assert labels[8, 8, 8] == 1  # the argument is not changed


def test_a_part_nearly_as_large_as_the_largest_is_not_taken_for_a_mistake():
    labels = np.zeros((12, 10, 10), np.uint8)
    labels[0:4, 0:5, 0:5] = 6  # two parts of an artery, of 100 and 60 voxels,
    labels[8:12, 0:5, 0:3] = 6
    labels[4:8] = 5  # and an aorta between them
    labels[8:12, 8:10, 8:10] = 6  # of 16: this one is the aorta's
    expected = labels.copy()
    expected[8:12, 8:10, 8:10] = 5

    np.testing.assert_array_equal(clean_up(labels, HVSMR), expected)


def test_a_component_with_a_wrong_label_takes_that_of_the_structure_it_touches_most():
    labels = np.zeros((10, 6, 6), np.uint8)
    labels[0:8] = 1
    labels[9, 0:5] = 2
    labels[8, 0:2, 0] = 2
    labels[3:5, 2:4, 2:4] = 2  # inside of 1
    labels[5, 2:4, 2:4] = 3  # beside it, and the largest of its label is elsewhere
    labels[9, 5, 0:5] = 3
    expected = labels.copy()
    expected[3:6, 2:4, 2:4] = 1

    np.testing.assert_array_equal(keep_largest_components(labels), expected)


def test_a_chamber_too_small_to_be_one_is_part_of_its_neighbour():
    labels = np.zeros((20, 10, 10), np.uint8)
    labels[2:18, 1:9, 1:9] = 1  # a left ventricle of 1024 voxels
    labels[2:4, 1:9, 1] = 2  # a right ventricle of 16
    labels[2:4, 1:9, 8] = 8  # an inferior vena cava of 16, as small as some are
    expected = labels.copy()
    expected[labels == 2] = 1

    np.testing.assert_array_equal(clean_up(labels, HVSMR), expected)

    labels[2:4, 1:9, 2] = 2
    np.testing.assert_array_equal(clean_up(labels, HVSMR), labels)


def test_whether_a_chamber_is_too_small_does_not_depend_on_the_muscle():
    muscle = Structure(9, "MYO", "myocardium", (255, 128, 0))
    table = LabelTable((*HVSMR.structures, muscle))
    labels = np.zeros((20, 10, 10), np.uint8)
    labels[2:18, 1:9, 1:8] = 1  # a left ventricle of 896 voxels
    labels[2:5, 1:9, 1] = 2  # a right ventricle of 24: 2.7 % of both
    labels[2:18, 1:9, 8] = 9
    labels[2:18, 0] = labels[2:18, 9] = 9  # muscle of 448: of all together it would be 1.8 %

    np.testing.assert_array_equal(clean_up(labels, table), labels)


def test_voxels_that_share_only_a_corner_are_one_component():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = 5

    np.testing.assert_array_equal(keep_largest_components(labels), labels)


def test_a_structure_that_may_be_bilateral_keeps_its_second_component_but_no_debris():
    labels = np.zeros((12, 5, 5), np.uint8)
    labels[0:4, 0, 0] = 7
    labels[6:8, 4, 4] = 7  # half of the largest
    labels[11, 0, 4] = 7  # a quarter
    expected = labels.copy()
    expected[11, 0, 4] = 0

    cleaned = keep_largest_components(labels, keep_fraction={7: 0.5})

    np.testing.assert_array_equal(cleaned, expected)
    np.testing.assert_array_equal(keep_largest_components(labels, keep_fraction={7: 0}), labels)


def test_of_two_equal_components_one_stays():
    labels = np.zeros((5, 1, 1), np.uint8)
    labels[[0, 1, 3, 4]] = 1

    np.testing.assert_array_equal(keep_largest_components(labels).ravel(), [1, 1, 0, 0, 0])


def test_a_neighbour_inside_the_box_of_a_structure_is_left_alone():
    labels = np.full((7, 7, 7), 1, np.uint8)
    labels[2:5, 2:5, 2:5] = 0
    labels[3, 3, 3] = 2

    np.testing.assert_array_equal(keep_largest_components(labels), labels)


def test_an_empty_label_map_stays_empty():
    empty = np.zeros((3, 4, 5), np.uint8)

    np.testing.assert_array_equal(keep_largest_components(empty), empty)


def test_structures_of_other_data_sets_keep_their_components_and_their_size():
    labels = np.zeros((12, 10, 10), np.uint8)
    labels[1:9, 1:9, 1:9] = 3  # LV of ACDC
    labels[10, 0:2, 0] = labels[10, 6:8, 9] = 2  # muscle in two parts
    labels[11, 9, 9] = 1  # a right ventricle of one voxel

    np.testing.assert_array_equal(clean_up(labels, ACDC), labels)
    veins = LabelTable((HVSMR.structures[0], Structure(1, "PV", "pulmonary veins", (1, 2, 3))))
    parts = np.zeros((12, 10, 10), np.uint8)
    parts[2:9, 2:4, 2:4] = parts[11, 9, 9] = 1
    np.testing.assert_array_equal(clean_up(parts, veins), parts)
