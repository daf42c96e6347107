"""The command `train` on whole hearts: tiny phantoms, a tiny network."""

import shutil

import keras
import nibabel
import numpy as np
import pytest
from builders import make_heart_config
from threadpoolctl import threadpool_info

from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.files import write_json
from heartseg.hashing import hash_labels
from heartseg.inference import network
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.synth import run_synth
from heartseg.pipelines.train import run_training
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.volume import UNLABELLED, read_label_map

SPLIT = {"train_cases": ["pat0", "pat1"], "valid_cases": ["pat2"], "test_cases": ["pat3"]}
SETTINGS = {
    "split": SPLIT,
    "train": {"epochs": 2, "steps_per_epoch": 3, "weight_decay": 1e-4, "average_weights": 0.9},
}


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hearts") / "volumes"
    run_synth(folder, patients=4, size=32, seed=3, overwrite=False)
    return folder


def settings(source_dir, run_dir, **changes):
    return make_heart_config(source_dir, run_dir, SETTINGS, changes)


@pytest.fixture(scope="module")
def trained(source_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("hearts") / "run"
    return run_dir, run_training(settings(source_dir, run_dir))


def test_a_run_keeps_the_model_and_says_what_it_learned_from(trained):
    run_dir, result = trained
    assert len(result.history) == 2
    metadata = read_metadata(run_dir / "best.keras")
    assert metadata["kind"] == "whole_heart"
    assert metadata["train"]["scans"] == ["pat0", "pat1"]
    assert metadata["train"]["valid_scans"] == ["pat2"]
    model = load_model(run_dir / "best.keras")
    assert model.output_shape == (None, 16, 16, 16, 9)
    assert {file.name for file in (run_dir / "epoch_change_infer").iterdir()} == {
        "Reference_pat2.png",
        "Epoch_001_pat2.png",
        "Epoch_002_pat2.png",
    }


def test_the_model_that_is_kept_has_the_average_of_the_weights(trained):
    run_dir, _ = trained
    kept = load_model(run_dir / "best.keras").get_weights()
    last = load_model(run_dir / "last" / "state.keras", compiled=True)
    assert any((a != b).any() for a, b in zip(kept, last.get_weights(), strict=True))
    last.optimizer.finalize_variable_values(last.trainable_variables)
    for mean, found in zip(last.get_weights(), kept, strict=True):
        np.testing.assert_allclose(found, mean, atol=1e-6)


def test_a_resumed_run_ends_as_an_undisturbed_one(trained, source_dir, tmp_path, monkeypatch):
    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.epoch == 2:
            raise KilledError

    config = settings(source_dir, tmp_path / "run")
    with pytest.raises(KilledError):
        run_training(config, track=kill)
    result = run_training(config, resume=True)
    losses = [record.logs["val_loss"] for record in result.history]
    np.testing.assert_allclose(
        losses, [record.logs["val_loss"] for record in trained[1].history], rtol=1e-5
    )


def test_numpy_multiplies_in_one_thread_while_a_network_trains(source_dir, tmp_path):
    def blas_threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    before, seen = blas_threads(), []
    run_training(
        settings(source_dir, tmp_path / "run"), track=lambda _: seen.append(blas_threads())
    )
    assert all(threads == {1} for threads in seen)
    assert seen
    assert blas_threads() == before


def test_the_rate_falls_along_a_cosine(trained):
    # The first of three epochs of warming up, then the second at half way of the cosine.
    rates = [record.learning_rate for record in trained[1].history]
    np.testing.assert_allclose(rates, [0.01 / 3, 0.01 * 2 / 3 * (0.02 + 0.98 / 2)], rtol=1e-5)


def test_weights_of_another_run_are_where_training_starts(trained, source_dir, tmp_path):
    run_dir, result = trained
    config = settings(
        source_dir,
        tmp_path / "run",
        train={"init": str(run_dir / "best.keras"), "learning_rate": 1e-9, "epochs": 1},
    )
    # Almost no step is made: the loss stays that of the weights that were given.
    assert run_training(config).best_loss == pytest.approx(result.best_loss, rel=1e-3)


def test_weights_of_another_shape_are_refused(trained, source_dir, tmp_path):
    run_dir, _ = trained
    config = settings(
        source_dir,
        tmp_path / "run",
        model={"filters": [8, 16]},
        train={"init": str(run_dir / "best.keras")},
    )
    with pytest.raises(
        ModelError, match=r"train\.init: expected the 24 weight arrays .* found 24 in .*best\.keras"
    ):
        run_training(config)


def test_a_split_on_disk_is_read(source_dir, tmp_path):
    lists = {"train_cases": None, "valid_cases": None, "test_cases": None}
    config = settings(source_dir, tmp_path / "run", split=lists)
    with pytest.raises(DataError, match=r"split\.json: no such file; run `heartseg split` first"):
        run_training(config)
    write_json(tmp_path / "dataset" / "split.json", {"by": "slice", "cases": {}})
    with pytest.raises(DataError, match="expected a split by patient"):
        run_training(config)
    write_json(
        tmp_path / "dataset" / "split.json",
        {"by": "patient", "cases": {"train": ["pat9"], "valid": [], "test": []}},
    )
    with pytest.raises(DataError, match="the split's pat9 lack an image or a label map"):
        run_training(config)


@pytest.mark.parametrize("known_by", ["fingerprint", "hash of version 0.1", "list of cases"])
def test_a_held_out_patient_under_another_name_is_refused(source_dir, tmp_path, known_by):
    others = tmp_path / "label_maps"
    others.mkdir()
    held = source_dir / "pat3_cropped_seg.nii.gz"
    shutil.copy(held, others / "copy_cropped_seg.nii.gz")
    volume = read_label_map(held, HVSMR)
    digest = {
        "fingerprint": fingerprint_labels(volume),
        "hash of version 0.1": hash_labels(volume.voxels, volume.spacing_mm),
    }
    split = {"train_cases": ["pat0"], "valid_cases": [], "test_cases": ["pat3"]}
    if known_by in digest:
        write_json(
            tmp_path / "dataset" / "split.json",
            {
                "by": "patient",
                "cases": {"train": ["pat0"], "valid": [], "test": ["pat3"]},
                "hashes": {"cases": {"pat3": digest[known_by]}},
            },
        )
        split = dict.fromkeys(split)
    config = settings(
        source_dir, tmp_path / "run", split=split, synthesis={"label_maps_dir": str(others)}
    )

    with pytest.raises(DataError, match=r"copy_cropped_seg.* is the label map of pat3, a .*test"):
        run_training(config)


def test_label_maps_without_images_join_and_held_out_ones_do_not(source_dir, tmp_path):
    others = tmp_path / "label_maps"
    others.mkdir()
    for name in ("pat2", "pat3", "pat7"):
        shutil.copy(source_dir / "pat1_cropped_seg.nii.gz", others / f"{name}_cropped_seg.nii.gz")
    config = settings(
        source_dir,
        tmp_path / "run",
        synthesis={"label_maps_dir": str(others)},
        train={"epochs": 1, "steps_per_epoch": 1},
    )
    run_training(config)
    assert read_metadata(tmp_path / "run" / "best.keras")["train"]["label_maps"] == ["pat7"]


def test_a_label_map_that_is_drawn_in_part_trains_too(source_dir, tmp_path):
    drawn = tmp_path / "volumes"
    drawn.mkdir()
    for kind in ("norm", "seg"):
        shutil.copy(source_dir / f"pat0_cropped_{kind}.nii.gz", drawn)
    file = drawn / "pat0_cropped_seg.nii.gz"
    image = nibabel.load(file)
    labels = np.full(image.shape, UNLABELLED, np.int16)
    labels[:, :, ::5] = np.asarray(image.dataobj)[:, :, ::5]
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), file)
    only = {"train_cases": ["pat0"], "valid_cases": [], "test_cases": []}
    config = settings(drawn, tmp_path / "run", split=only)
    assert np.isfinite(run_training(config).best_loss)


@pytest.mark.parametrize(
    ("section", "entries", "message"),
    [
        ("train", {"loss": "dice"}, r"trained with train\.loss: dice_crossentropy"),
        ("train", {"clipvalue": 1, "clipnorm": 1}, "set one of them to 0"),
        ("model", {"grid": [16, 18, 16]}, r"grid: expected multiples of 4"),
        ("model", {"filters": [12]}, "filters"),
    ],
)
def test_settings_that_do_not_fit_are_refused(source_dir, tmp_path, section, entries, message):
    with pytest.raises((ConfigError, ValueError), match=message):
        settings(source_dir, tmp_path / "run", **{section: entries})


def test_the_packaged_weights_fit_whole_hearts_only():
    with pytest.raises(ValueError, match="the packaged weights are of a network"):
        Config.model_validate({"train": {"init": "packaged"}})


def predict_by_place(images):
    """Stand in for a trained network: what is bright is one of two structures, by its side."""
    value = images[..., 0]
    right = np.arange(value.shape[3]) >= value.shape[3] // 2
    scores = np.full((*value.shape, 9), -9.0, np.float32)
    scores[..., 0] = 0.7
    scores[..., 1] = np.where(right, -9, value)
    scores[..., 4] = np.where(right, value, -9)
    return 20 * scores


def test_a_trained_run_segments_volumes(trained, source_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "compile_volume_predict", lambda _: predict_by_place)
    run_dir, _ = trained
    config = settings(source_dir, run_dir)
    result = run_infer(config, [source_dir / "pat3_cropped_norm.nii.gz"], output_dir=tmp_path)
    assert result.num_volumes == 1
    labels = nibabel.load(tmp_path / "pat3_seg.nii.gz")
    image = nibabel.load(source_dir / "pat3_cropped_norm.nii.gz")
    assert labels.shape == image.shape
    np.testing.assert_allclose(labels.affine, image.affine, atol=1e-5)
    assert set(np.unique(labels.dataobj)) == {0, 1, 4}
    assert {row.structure for row in result.volumes if row.stability is not None} >= {"LV", "RA"}


def test_pictures_are_refused_by_a_model_of_whole_hearts(trained, source_dir, tmp_path):
    run_dir, _ = trained
    picture = run_dir / "epoch_change_infer" / "Reference_pat2.png"
    with pytest.raises(DataError, match=r"a model of whole hearts.* needs a scan, not a picture"):
        run_infer(settings(source_dir, run_dir), [picture], output_dir=tmp_path)


def test_a_trained_run_is_scored_on_its_test_cases(trained, source_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "compile_volume_predict", lambda _: predict_by_place)
    run_dir, _ = trained
    write_json(
        run_dir.parent / "dataset" / "split.json",
        {"by": "patient", "cases": {"train": ["pat0"], "valid": [], "test": ["pat3"]}},
    )
    # As in a process of its own, in which no layer has been named yet.
    keras.utils.clear_session()
    result = run_evaluation(settings(source_dir, run_dir), output_dir=tmp_path / "scores")
    assert result.published.keys() == {"dice_crossentropy", "dice_coef_multiclass"}
    assert 0 < result.published["dice_coef_multiclass"] < 1
    rows = (tmp_path / "scores" / "cases.csv").read_text().splitlines()
    assert any(row.startswith("pat3,LV,0.") for row in rows)
    assert (tmp_path / "scores" / "predictions" / "pat3_seg.nii.gz").is_file()


def test_the_model_records_what_it_learned_from_and_scores_are_audited_against_it(
    source_dir, tmp_path
):
    config = settings(source_dir, tmp_path / "run")
    run_training(config)
    record = read_metadata(tmp_path / "run/best.keras")["learned_from"]
    assert record["train"]["cases"] == ["pat0", "pat1"]
    assert record["train"]["label_maps"]["pat1"] == fingerprint_labels(
        read_label_map(source_dir / "pat1_cropped_seg.nii.gz", HVSMR)
    )
    assert set(record["train"]["scans"]) == {"pat0", "pat1"}
    assert record["valid"]["cases"] == ["pat2"]

    lists = {"train_cases": ["pat3"], "valid_cases": ["pat2"], "test_cases": ["pat0"]}
    other = config.model_copy(update={"split": type(config.split)(**lists)})
    warnings = run_evaluation(other).summary["warnings"]

    assert any(text.startswith("LEAKAGE") and "1 of 1 (pat0)" in text for text in warnings)
