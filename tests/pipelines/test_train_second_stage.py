"""The command `train` with a second stage: trained after the first, resumed, joined, used."""

import shutil

import nibabel
import numpy as np
import pytest
from builders import make_heart_config

from heartseg.config.loading import load_config
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.files import write_json
from heartseg.inference import whole_heart
from heartseg.inference.correction import correct_probabilities
from heartseg.modelfile.checkpoint import load_model, read_metadata, save_model
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.synth import run_synth
from heartseg.pipelines.train import run_training
from heartseg.runs.second_stage import SecondStage
from heartseg.runs.trained import describe_model

STAGE = {
    "enabled": True,
    "grid": [24, 28, 20],
    "patch": [20, 20, 16],
    "training_patch": [12, 16, 12],
    "filters": [8, 8],
    "epochs": 2,
    "steps_per_epoch": 3,
}
SETTINGS = {
    "split": {"train_cases": ["pat0"], "valid_cases": ["pat1"], "test_cases": ["pat2"]},
    "second_stage": STAGE,
    "train": {"epochs": 1, "steps_per_epoch": 2, "epoch_change_infer": False},
}


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hearts") / "volumes"
    run_synth(folder, patients=3, size=32, seed=3, overwrite=False)
    return folder


def settings(source_dir, run_dir, **changes):
    return make_heart_config(source_dir, run_dir, SETTINGS, changes)


@pytest.fixture(scope="module")
def trained(source_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("hearts") / "run"
    return run_dir, run_training(settings(source_dir, run_dir))


def test_one_model_file_holds_both_stages_and_what_they_learned_from(trained):
    run_dir, result = trained
    assert (len(result.history), len(result.second_stage.history)) == (1, 2)
    metadata = read_metadata(run_dir / "best.keras")
    assert metadata["kind"] == "whole_heart"
    assert metadata["second_stage"]["grid"] == [24, 28, 20]
    assert metadata["second_stage"]["training"]["epoch"] == result.second_stage.best_epoch
    assert metadata["learned_from"]["train"]["cases"] == ["pat0"]
    assert load_model(run_dir / "best.keras").output_shape == (None, 16, 16, 16, 9)
    # For patches of inference, with the weights that were trained on smaller ones.
    second = load_model(run_dir / "best.keras", second_stage=True)
    assert second.output_shape == (None, 20, 20, 16, 9)
    alone = load_model(run_dir / "second_stage" / "best.keras")
    for found, learned in zip(second.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(found, learned)
    assert np.abs(second.get_layer("correction").kernel).max() > 0
    assert describe_model(run_dir / "best.keras").second_stage.patch == (20, 20, 16)


class KilledError(Exception):
    pass


def test_a_second_stage_that_is_added_later_and_killed_ends_as_an_undisturbed_one(
    trained, source_dir, tmp_path
):
    def kill(progress):
        if progress.epochs == 2 and progress.epoch == 2:
            raise KilledError

    run_dir = tmp_path / "run"
    run_training(settings(source_dir, run_dir, second_stage={"enabled": False}))
    assert not (run_dir / "second_stage").exists()
    config = settings(source_dir, run_dir)
    with pytest.raises(KilledError):
        run_training(config, track=kill, resume=True)
    # What is there by then is the first stage, which works alone.
    assert describe_model(run_dir / "best.keras").second_stage is None
    assert len(read_metadata(run_dir / "second_stage/last/state.keras")["history"]) == 1

    result = run_training(config, resume=True)

    losses, expected = (
        [record.logs["val_loss"] for record in done.second_stage.history]
        for done in (result, trained[1])
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert describe_model(run_dir / "best.keras").second_stage is not None
    found, wanted = (
        load_model(folder / "best.keras", second_stage=True).get_weights()
        for folder in (run_dir, trained[0])
    )
    for resumed, undisturbed in zip(found, wanted, strict=True):
        np.testing.assert_allclose(resumed, undisturbed, atol=1e-5)
    with pytest.raises(ConfigError, match=r"(?s)second_stage: .*second_stage\.filters: was"):
        run_training(settings(source_dir, run_dir, second_stage={"filters": [8, 16]}), resume=True)


def test_a_second_stage_of_an_earlier_first_stage_is_refused_by_its_folder(
    trained, source_dir, tmp_path
):
    SecondStage(settings(source_dir, trained[0]), None).check_first()
    run_dir = shutil.copytree(trained[0], tmp_path / "run")
    best = run_dir / "best.keras"
    metadata = read_metadata(best)
    # As if the first stage had been trained for longer, and epoch 2 were its best.
    save_model(load_model(best), best, {**metadata, "training": {"epoch": 2}})

    with pytest.raises(DataError, match=r"run/second_stage: .* of epoch 1, whose best epoch is 2"):
        SecondStage(settings(source_dir, run_dir), None).check_first()


def test_a_second_stage_starts_from_that_of_the_weights_that_are_given(
    trained, source_dir, tmp_path
):
    file = trained[0] / "best.keras"
    config = settings(source_dir, tmp_path / "run", train={"init": str(file)})
    # Nothing of the hearts is needed to build the network.
    network = SecondStage(config, None).build_network(config)
    given = load_model(file, second_stage=True).get_weights()
    for found, wanted in zip(network.get_weights(), given, strict=True):
        np.testing.assert_array_equal(found, wanted)
    other = settings(
        source_dir,
        tmp_path / "run",
        train={"init": str(file)},
        second_stage={"filters": [8, 16]},
    )
    with pytest.raises(ModelError, match=r"Use the section second_stage of the run"):
        SecondStage(other, None).build_network(other)


@pytest.mark.parametrize("runtime", ["auto", "onnx"])
def test_infer_and_evaluate_use_both_stages(trained, source_dir, tmp_path, monkeypatch, runtime):
    run_dir, _ = trained
    calls = []

    def record(correct, stage, image, probabilities, **options):
        calls.append((stage.grid, image.shape))
        return correct_probabilities(correct, stage, image, probabilities, **options)

    monkeypatch.setattr(whole_heart, "correct_probabilities", record)
    config = settings(source_dir, run_dir)
    config = config.model_copy(
        update={"infer": config.infer.model_copy(update={"runtime": runtime})}
    )
    scan = source_dir / "pat2_cropped_norm.nii.gz"
    run_infer(config, [scan], output_dir=tmp_path / "out")
    assert calls == [((24, 28, 20), (24, 28, 20))]
    assert nibabel.load(tmp_path / "out/pat2_seg.nii.gz").shape == nibabel.load(scan).shape
    if runtime == "onnx":
        return
    write_json(
        run_dir.parent / "dataset" / "split.json",
        {"by": "patient", "cases": {"train": ["pat0"], "valid": [], "test": ["pat2"]}},
    )
    run_evaluation(config, output_dir=tmp_path / "scores")
    assert len(calls) == 2


def test_the_configuration_of_a_run_keeps_the_second_stage(trained):
    run_dir, _ = trained
    assert load_config(run_dir / "config.yaml").second_stage.training_patch == (12, 16, 12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"second_stage": {"enabled": True}}, "model.kind: slices does not use second_stage"),
        (
            {"model": {"kind": "slices"}, "infer": {"second_stage": False}},
            r"model\.kind: slices does not use infer\.second_stage",
        ),
        (
            {"model": {"kind": "whole_heart"}, "infer": {"overlay": True, "movie": "gif"}},
            r"model\.kind: whole_heart does not use infer\.overlay",
        ),
        (
            {"model": {"kind": "whole_heart"}, "second_stage": {"patch": [64, 80, 70]}},
            "patch: expected multiples of 8",
        ),
        (
            {"model": {"kind": "whole_heart"}, "second_stage": {"grid": [56, 80, 72]}},
            r"patch: expected multiples of 8 .* of at most the grid \[56, 80, 72\]",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Config.model_validate(values)
