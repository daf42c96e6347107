import numpy as np
import pytest

from heartseg.errors import ModelError
from heartseg.modelfile import initial
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.initial import load_initial_weights
from heartseg.networks.unet import build_unet


def build_small(seed, **options):
    return build_unet(
        **{"image_size": (8, 8), "base_filters": 2, "num_layers": 2, **options}, seed=seed
    )


def assert_equal_weights(model, other):
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_new_network_gets_the_weights_of_a_file(tmp_path):
    trained, model = build_small(1), build_small(2)
    save_model(trained, tmp_path / "best.keras", {})

    load_initial_weights(model, tmp_path / "best.keras")

    assert_equal_weights(model, trained)


def test_without_a_file_the_weights_are_those_of_the_packaged_model(monkeypatch):
    trained, model = build_small(1), build_small(2)
    monkeypatch.setattr(initial, "load_packaged", lambda *, second_stage: trained)

    load_initial_weights(model, None)

    assert_equal_weights(model, trained)


def test_weights_of_another_shape_are_refused_and_the_first_difference_is_named(tmp_path):
    save_model(build_small(1, base_filters=4), tmp_path / "best.keras", {})
    model, before = build_small(2), build_small(2)

    message = r"best\.keras; the first .* \(\(7, 7, 3, 2\), \(7, 7, 3, 4\)\).*section model"
    with pytest.raises(ModelError, match=message):
        load_initial_weights(model, tmp_path / "best.keras")
    assert_equal_weights(model, before)


def test_a_network_with_more_levels_is_refused(tmp_path):
    save_model(build_small(1), tmp_path / "best.keras", {})
    # Two levels: 3 blocks of 2 convolutions, an upsampling, the output, each kernel and bias. The
    # third level adds 2 blocks and an upsampling.
    with pytest.raises(ModelError, match=r"expected the 26 weight arrays .* found 16 in"):
        load_initial_weights(build_small(1, num_layers=3), tmp_path / "best.keras")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.keras: expected a model file"):
        load_initial_weights(build_small(1), tmp_path / "gone.keras")
