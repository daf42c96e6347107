import math

import nibabel
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from heartseg.evaluation.overlap import confusion_matrix, dice_per_label, overlap_of_counts


def test_dice_of_a_shifted_square_matches_the_hand_count():
    reference = np.zeros((8, 8), np.uint8)
    prediction = np.zeros_like(reference)
    reference[2:6, 2:6] = 1
    prediction[2:6, 4:8] = 1  # 16 pixels each, 8 shared

    np.testing.assert_allclose(dice_per_label(prediction, reference, num_classes=2), [0.5])


def test_a_label_that_both_maps_lack_has_no_dice():
    labels = np.array([0, 1, 1], np.uint8)

    dice = dice_per_label(labels, labels, num_classes=3)

    assert dice[0] == 1
    assert math.isnan(dice[1])


def test_measures_follow_from_the_counts():
    overlap = overlap_of_counts(shared=6, prediction=8, reference=12)

    assert (overlap.dice, overlap.iou) == (12 / 20, 6 / 14)
    assert (overlap.precision, overlap.recall) == (6 / 8, 6 / 12)


def test_empty_masks_have_no_measures():
    overlap = overlap_of_counts(shared=0, prediction=0, reference=0)

    assert all(map(math.isnan, (overlap.dice, overlap.iou, overlap.precision, overlap.recall)))


def test_rows_of_the_confusion_matrix_are_the_reference():
    reference = np.array([0, 0, 1, 2, 2], np.uint8)
    prediction = np.array([0, 1, 1, 0, 2], np.int16)

    counts = confusion_matrix(prediction, reference, 3)

    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 0], [1, 0, 1]])


def test_256_labels_can_be_counted():
    labels = np.arange(256).astype(np.uint8)

    np.testing.assert_array_equal(confusion_matrix(labels, labels, 256), np.eye(256))


def test_empty_maps_count_nothing():
    empty = np.zeros((0, 4), np.uint8)

    assert confusion_matrix(empty, empty, 3).sum() == 0


@pytest.mark.parametrize(
    ("prediction", "reference", "num_classes", "message"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), 2, "the same shape"),
        (
            np.full((2, 2), 2),
            np.zeros((2, 2), int),
            2,
            "prediction: expected labels 0 to 1, got 2 to 2",
        ),
        (
            np.zeros((2, 2), int),
            np.full((2, 2), -1),
            2,
            "reference: expected labels 0 to 1, got -1 to -1",
        ),
        (np.zeros((2, 2), int), np.zeros((2, 2), int), 257, "2 to 256 classes"),
    ],
)
def test_wrong_input_is_refused(prediction, reference, num_classes, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(prediction, reference, num_classes)


def test_real_label_maps_score_as_with_scikit_learn(hvsmr2):
    file = hvsmr2 / "labels" / "pat17_cropped_seg.nii.gz"
    reference = np.asarray(nibabel.load(file).dataobj).astype(np.uint8)[::2, ::2, ::2]
    prediction = np.roll(reference, 1, axis=1)
    counts = confusion_matrix(prediction, reference, 9)
    flat = reference.ravel(), prediction.ravel()
    labels = [label for label in range(1, 9) if counts[label].sum()]

    for measure, expected in (("dice", f1_score), ("iou", jaccard_score)):
        found = [
            getattr(
                overlap_of_counts(
                    shared=int(counts[i, i]),
                    prediction=int(counts[:, i].sum()),
                    reference=int(counts[i].sum()),
                ),
                measure,
            )
            for i in labels
        ]
        np.testing.assert_allclose(found, expected(*flat, labels=labels, average=None), rtol=1e-12)
