"""What a step of a training costs, measured without its data."""

import numpy as np
import pytest
from builders import make_config

from heartseg.networks.correction_unet import build_correction_unet
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.runs.rehearsal import rehearse_hearts
from heartseg.runs.step_cost import StepCost, measure_steps

GRID, PATCH, FILTERS = (16, 16, 16), (8, 12, 16), (8, 16)
HEARTS = {
    "model": {"kind": "whole_heart", "grid": GRID, "filters": FILTERS},
    "train": {"batch_size": 2, "precision": "float32", "metrics": [], "loss": "dice_crossentropy"},
}


def configure(folder, sections):
    config = make_config(folder)
    values = config.model_dump(mode="json", exclude={"model", "train"})
    return type(config).model_validate({**values, **HEARTS, **sections})


def test_both_stages_are_timed_with_the_drawing_of_their_samples(tmp_path):
    stage = {"enabled": True, "grid": [24, 24, 24], "patch": PATCH, "training_patch": PATCH}
    config = configure(tmp_path, {"second_stage": {**stage, "filters": FILTERS}})
    first, second = measure_steps(config)
    networks = (
        build_volume_unet(grid=GRID, filters=FILTERS, num_classes=9),
        build_correction_unet(patch=PATCH, filters=FILTERS, num_classes=9),
    )
    for cost, network in zip((first, second), networks, strict=True):
        assert cost.parameters == network.count_params()
        assert cost.draw_s > 0
        assert cost.step_s > max(cost.train_s, cost.draw_s)
        assert cost.start_s > cost.train_s
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("device", "seconds"), [("CPU", 2.5), ("GPU", 2.0)])
def test_a_gpu_computes_while_samples_are_drawn_and_a_cpu_does_both(device, seconds):
    assert StepCost(2.0, 0.1, 1, 1, device, draw_s=0.5).step_s == seconds


@pytest.mark.parametrize("labels", ["hvsmr", "acdc"])
def test_a_rehearsed_heart_has_the_classes_of_the_table(tmp_path, labels):
    config = configure(tmp_path, {"labels": labels})
    num_classes = config.label_table.num_classes
    batch = rehearse_hearts(config, GRID)
    assert batch.images.shape == (2, *GRID, 1)
    assert batch.targets.shape == (2, *GRID, num_classes)
    np.testing.assert_allclose(batch.targets.sum(axis=-1), 1, atol=1e-5)
    assert (batch.targets.max(axis=(0, 1, 2, 3)) > 0).all()
