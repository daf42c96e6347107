"""The two figures that the published program gives of a model, over the test part of a split."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from heartseg.cohort.cases import CaseFiles
from heartseg.config.schema import Config
from heartseg.labels import LabelTable
from heartseg.modelfile.description import ModelDescription
from heartseg.runs.material import Batches
from heartseg.runs.slice_kind import find_part
from heartseg.slices.batches import data_errors, untuned
from heartseg.slices.dataset import build_dataset
from heartseg.slices.recipe import SliceRecipe
from heartseg.synthesis.rendering import frame_scan
from heartseg.synthesis.sources import read_scan
from heartseg.training.losses import build_loss
from heartseg.training.metrics import build_metrics

PUBLISHED_METRIC = "dice_coef_multiclass"


def measure_slices(
    model: keras.Model, recipe: SliceRecipe, table: LabelTable, config: Config
) -> dict[str, float]:
    """Return loss and ``dice_coef_multiclass`` over the test slices, as the published way does.

    Raises:
        DataError: If there are no test slices, or one is broken.
    """
    slices = build_dataset(
        find_part(config.dataset_dir, "test", context=recipe.context),
        table=table,
        image_size=(recipe.image_height, recipe.image_width),
        image_channels=recipe.channels,
        batch_size=config.evaluate.batch_size,
    )
    with data_errors():
        return _measure(model, slices, table, config)


def measure_hearts(
    network: keras.Model, model: ModelDescription, cases: Sequence[CaseFiles], config: Config
) -> dict[str, float]:
    """Return the same figures over hearts on the network's grid, each voxel of its likeliest class.

    Args:
        network: From images to logits.
        model: What it was trained for.
        cases: The test scans; at least one.
        config: Uses ``train.loss``.
    """
    planes, rows, columns, num_classes = network.output_shape[1:]
    samples = [
        frame_scan(
            read_scan(case.image_file, case.label_file, model.table),
            (planes, rows, columns),
            num_classes=num_classes,
        )
        for case in cases
    ]
    # The measures know pictures: a volume is laid out as one.
    flat = (planes, rows * columns)
    images = np.stack([sample.image for sample in samples])
    labels = np.stack([sample.shares.argmax(axis=-1).astype(np.uint8) for sample in samples])
    hearts = tf.data.Dataset.from_tensor_slices((images, labels.reshape(-1, *flat)))
    picture = keras.Sequential(
        [
            network,
            keras.layers.Softmax(dtype="float32"),
            keras.layers.Reshape((*flat, num_classes), dtype="float32"),
        ]
    )
    return _measure(picture, untuned(hearts.batch(1)), model.table, config)


def _measure(
    model: keras.Model, batches: Batches, table: LabelTable, config: Config
) -> dict[str, float]:
    model.compile(
        loss=build_loss(config.train.loss, table.num_classes),
        metrics=build_metrics([PUBLISHED_METRIC], table),
    )
    logs = model.evaluate(batches, return_dict=True, verbose=0)
    return {
        config.train.loss: float(logs["loss"]),
        PUBLISHED_METRIC: float(logs[PUBLISHED_METRIC]),
    }
