import keras
import numpy as np
import pytest

from heartseg.labels import HVSMR, LabelTable, Structure
from heartseg.networks.unet import build_unet
from heartseg.training.losses import build_loss
from heartseg.training.metrics import METRICS, build_metrics

TABLE = LabelTable(
    (
        Structure(0, "background", "background", (0, 0, 0)),
        Structure(1, "A", "a", (1, 0, 0)),
        Structure(2, "B", "b", (2, 0, 0)),
        Structure(3, "C", "c", (3, 0, 0)),
    )
)


def one_hot(labels):
    return np.eye(4, dtype=np.float32)[labels]


def update(name, *batches):
    (metric,) = build_metrics([name], TABLE)
    for references, probabilities in batches:
        metric.update_state(references, probabilities)
    return metric


def test_the_published_measure_of_a_prediction_without_heart_is_the_part_of_background():
    references = np.zeros((1, 10, 10), np.uint8)
    references[0, 0, :9] = 1
    metric = update("dice_coef_multiclass", (references, one_hot(np.zeros_like(references))))
    # 91 of 100 pixels are background: (2 * 91 + 1) / (100 + 100 + 1).
    assert float(metric.result()) == pytest.approx(183 / 201)


def test_the_published_measure_is_a_mean_over_slices_of_any_batch_size():
    right, wrong = np.full((1, 2, 2), 1), np.full((1, 2, 2), 2)
    metric = update(
        "dice_coef_multiclass",
        (np.concatenate([right, right]), one_hot(np.concatenate([right, right]))),
        (right, one_hot(wrong)),
    )
    # Two perfect slices, and one where only the smoothing counts: 1 / (4 + 4 + 1).
    assert float(metric.result()) == pytest.approx((1 + 1 + 1 / 9) / 3)


def test_dice_per_structure_counts_pixels_over_all_batches():
    references = np.array([[[1, 1], [2, 0]]], np.uint8)
    predictions = np.array([[[1, 0], [2, 2]]])
    second = np.array([[[1, 0], [0, 0]]], np.uint8)
    metric = update(
        "dice_per_structure", (references, one_hot(predictions)), (second, one_hot(second))
    )
    result = {key: float(value) for key, value in metric.result().items()}
    # A: 2 shared, 2 predicted, 3 in the references. B: 1, 2, 1. C: absent.
    assert result["dice_A"] == pytest.approx(2 * 2 / 5)
    assert result["dice_B"] == pytest.approx(2 * 1 / 3)
    assert np.isnan(result["dice_C"])
    assert result["dice_mean"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_dice_per_structure_of_nothing_is_not_a_number():
    background = np.zeros((1, 2, 2), np.uint8)
    metric = update("dice_per_structure", (background, one_hot(background)))
    assert all(np.isnan(float(value)) for value in metric.result().values())


def test_a_reset_forgets_the_epoch():
    right, wrong = np.full((1, 2, 2), 1), np.full((1, 2, 2), 2)
    metric = update("dice_per_structure", (right, one_hot(wrong)))
    metric.reset_state()
    metric.update_state(right, one_hot(right))
    assert float(metric.result()["dice_A"]) == 1


def test_accuracy_is_the_fraction_of_right_pixels():
    references = np.array([[[0, 1], [2, 0]]], np.uint8)
    metric = update("accuracy", (references, one_hot(np.array([[[0, 1], [1, 1]]]))))
    assert float(metric.result()) == pytest.approx(0.5)


def test_keras_logs_every_structure_by_name():
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2, seed=1)
    model.compile("sgd", build_loss("dice", 9), metrics=build_metrics(METRICS, HVSMR))
    rng = np.random.default_rng(0)
    images = rng.random((2, 8, 8, 3), np.float32)
    references = rng.integers(0, 9, (2, 8, 8)).astype(np.uint8)
    history = model.fit(images, references, validation_data=(images, references), verbose=0).history
    names = {"loss", "dice_coef_multiclass", "accuracy", "dice_mean"} | {
        f"dice_{structure.key}" for structure in HVSMR.foreground
    }
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(len(values) == 1 and np.ndim(values[0]) == 0 for values in history.values())


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_rebuilt_from_its_description(name):
    (metric,) = build_metrics([name], TABLE)
    description = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(description, safe_mode=True)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"metrics: expected any of .*, got 'iou'"):
        build_metrics(["accuracy", "iou"], TABLE)


def test_pixels_are_counted_not_weighted():
    (metric,) = build_metrics(["dice_per_structure"], TABLE)
    ones = np.ones((1, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="takes no sample_weight"):
        metric.update_state(ones, one_hot(ones), sample_weight=np.ones(1))
