"""configs/whole_heart.yaml holds the published values, given here by hand."""

from pathlib import Path

import pytest

from heartseg.config.loading import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED = {
    "prepare": {"image_width": 512, "image_height": 512, "fit": "stretch", "keep_empty": False},
    "split": {"train_fraction": 0.8, "valid_fraction": 0.15, "seed": 137},
    "model": {
        "image_channels": 3,
        "base_filters": 16,
        "base_kernels": (7, 7),
        "num_layers": 8,
        "dropout_rate": 0.04,
        "dilation": (1, 1),
        "normalization": "none",
        "activation": "relu",
    },
    "train": {
        "learning_rate": 7e-5,
        "clipvalue": 0.5,
        "batch_size": 2,
        "epochs": 100,
        "loss": "categorical_crossentropy",
        "metrics": ("dice_coef_multiclass",),
        "patience": 10,
        "learning_rate_reducer": True,
        "reducer_factor": 0.5,
        "reducer_patience": 4,
        "epoch_change_infer": True,
        "num_infer_images": 6,
    },
}


@pytest.mark.parametrize("section", PUBLISHED)
def test_the_published_recipe_is_value_for_value(section):
    config = load_config(CONFIGS / "whole_heart.yaml")
    values = getattr(config, section).model_dump()
    assert {key: values[key] for key in PUBLISHED[section]} == PUBLISHED[section]
    assert config.label_table.num_classes == 9
    assert not any(config.train.augment.model_dump(exclude={"elastic_sigma"}).values())


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_configuration_that_is_shipped_is_valid(file):
    load_config(file)
