import keras
import numpy as np
import pytest

from heartseg.training.losses import LOSSES, build_loss
from heartseg.training.partial_volume_loss import (
    PartialVolumeDiceCrossentropy,
    PatchDiceCrossentropy,
)


@pytest.fixture
def references():
    return np.array([[[0, 1], [2, 1]]], np.uint8)


@pytest.fixture
def probabilities():
    return np.array(
        [[[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], [[0.2, 0.2, 0.6], [0.4, 0.4, 0.2]]]], np.float32
    )


# The probabilities of the right classes, pixel by pixel.
RIGHT = np.array([0.5, 0.8, 0.6, 0.4])
CROSSENTROPY = -np.log(RIGHT).mean()
# Structure 1: 1.2 shared of 2 + 1.7. Structure 2: 0.6 shared of 1 + 1.1. Smoothing adds the ones.
DICE = np.mean([1 - (2 * 1.2 + 1) / (3.7 + 1), 1 - (2 * 0.6 + 1) / (2.1 + 1)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("categorical_crossentropy", CROSSENTROPY),
        ("dice", DICE),
        ("dice_crossentropy", CROSSENTROPY + DICE),
        ("focal", np.mean(0.25 * (1 - RIGHT) ** 2 * -np.log(RIGHT))),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_a_loss_matches_the_hand_count(name, expected, dtype, references, probabilities):
    loss = build_loss(name, 3)(references.astype(dtype), probabilities)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_has_no_loss_and_a_wrong_one_a_finite_loss(name):
    references = np.array([[[0, 1], [2, 1]]], np.uint8)
    perfect = np.eye(4, dtype=np.float32)[references]
    assert float(build_loss(name, 4)(references, perfect)) == pytest.approx(0, abs=1e-5)
    wrong = np.eye(4, dtype=np.float32)[(references + 1) % 4]
    assert np.isfinite(float(build_loss(name, 4)(references, wrong)))


def test_an_absent_structure_adds_nothing_unless_predicted():
    background = np.zeros((1, 4, 4), np.uint8)
    nothing = np.eye(3, dtype=np.float32)[background]
    false_alarm = np.eye(3, dtype=np.float32)[np.ones_like(background)]
    dice = build_loss("dice", 3)
    assert float(dice(background, nothing)) == pytest.approx(0)
    # Structure 1 was predicted in 16 pixels: 1 - 1 / 17; structure 2 is right.
    assert float(dice(background, false_alarm)) == pytest.approx((1 - 1 / 17) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_rebuilt_from_its_description(name, references, probabilities):
    loss = build_loss(name, 3)
    description = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(description, safe_mode=True)
    assert type(again) is type(loss)
    assert float(again(references, probabilities)) == float(loss(references, probabilities))


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match=r"loss: expected one of .*, got 'mse'"):
        build_loss("mse", 3)


def test_an_unlabelled_voxel_has_no_gradient():
    import tensorflow as tf

    logits = tf.Variable(np.random.default_rng(0).normal(size=(1, 2, 2, 2, 3)).astype(np.float32))
    fractions = np.zeros((1, 2, 2, 2, 3), np.float32)
    fractions[0, 0, 0, 0] = [0.25, 0.75, 0]
    with tf.GradientTape() as tape:
        loss = PartialVolumeDiceCrossentropy()(fractions, logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert np.abs(gradient[0, 0, 0, 0]).max() > 0.01
    gradient[0, 0, 0, 0] = 0
    assert not gradient.any()


def test_the_loss_of_whole_hearts_keeps_the_name_that_saved_runs_know():
    loss = PartialVolumeDiceCrossentropy()
    description = keras.saving.serialize_keras_object(loss)
    assert description["registered_name"] == "heartseg>SharesDiceCrossentropy"
    assert type(keras.saving.deserialize_keras_object(description)) is type(loss)


def test_the_loss_of_whole_hearts_is_smallest_where_probabilities_equal_the_fractions():
    fractions = np.full((1, 1, 1, 2, 2), 0.5, np.float32)
    loss = PartialVolumeDiceCrossentropy()
    equal, certain = np.zeros_like(fractions), np.zeros_like(fractions)
    certain[..., 1] = 4.0
    # The entropy of two equal halves; the Dice term is 1 - (2 - 0 + 1) / (2 + 1) = 0.
    assert float(loss(fractions, equal)) == pytest.approx(np.log(2), rel=1e-5)
    assert float(loss(fractions, certain)) > float(loss(fractions, equal))


def test_the_loss_of_patches_counts_dice_of_the_structures_that_are_there():
    # Eight voxels, all of class 1 of three; the probabilities are 1/2, 1/4 and 1/4 everywhere.
    fractions = np.zeros((1, 2, 2, 2, 3), np.float32)
    fractions[..., 1] = 1
    logits = np.broadcast_to(np.log([2, 1, 1]), fractions.shape).astype(np.float32)
    # Class 1: 10 voxels in both, 6 apart, 1 added; class 2: 2 voxels, 2 apart.
    present, absent = 1 - (10 - 6 + 1) / (10 + 1), 1 - (2 - 2 + 1) / (2 + 1)
    whole = float(PartialVolumeDiceCrossentropy()(fractions, logits))
    patch = float(PatchDiceCrossentropy()(fractions, logits))
    assert whole == pytest.approx(np.log(4) + (present + absent) / 2, rel=1e-5)
    assert patch == pytest.approx(np.log(4) + present, rel=1e-5)
    # A patch without any structure has no Dice.
    fractions[..., 0], fractions[..., 1] = 1, 0
    assert float(PatchDiceCrossentropy()(fractions, logits)) == pytest.approx(np.log(2), rel=1e-5)
