"""A study from its data to its table, in this process and with tiny settings."""

import csv
import statistics
from collections import Counter
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.config.schema import Config, ParallelConfig
from heartseg.errors import BatchError, ConfigError, DataError
from heartseg.files import read_json
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.score_model import run_evaluation
from heartseg.runs.step_cost import StepCost
from heartseg.runs.study_layout import find_model
from heartseg.study import running
from heartseg.study.fold import run_fold
from heartseg.study.forecast import forecast_study
from heartseg.study.plan import plan_study
from heartseg.study.progress import format_duration
from heartseg.study.running import run_study

NUM_CASES, FOLDS, EPOCHS = 6, 2, 2
TINY = {
    "split": {"folds": FOLDS, "valid_fraction": 0.2},
    "model": {"num_layers": 2, "base_filters": 8, "base_kernels": [3, 3]},
    "train": {
        "batch_size": 8,
        "epochs": EPOCHS,
        "learning_rate": 0.01,
        "metrics": [],
        "deterministic": True,
        "precision": "float32",
        "tensorboard": False,
        "epoch_change_infer": False,
    },
    "evaluate": {"num_bootstrap": 100},
}
COST = StepCost(2.0, 0.5, parameters=1_000_000, memory_bytes=3 * 10**9, device="CPU")


class Killed(BaseException):
    """What stands for the end of the process."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number in range(NUM_CASES):
        write_case(folder / "volumes", f"pat{number}", make_scan(seed=number))
    return folder


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Run the folds here: a process of its own would load TensorFlow again."""

    def run_folds(study, folds, _places):
        for number in folds:
            run_fold(study.fold_config(number))
        return []

    monkeypatch.setattr(running, "run_folds_here", run_folds)


def configure(data, name, changes=None):
    sections = {**TINY, **(changes or {})}
    return make_config(data, sections).model_copy(update={"run_dir": data / name})


@pytest.fixture(scope="module")
def finished(data):
    """A study that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            running,
            "run_folds_here",
            lambda study, folds, _: [run_fold(study.fold_config(n)) for n in folds][:0],
        )
        return run_study(configure(data, "uninterrupted"))


def read_rows(file):
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_patient_is_scored_once_by_the_fold_that_has_not_seen_it(finished):
    pooled = {
        (row["case"], row["structure"]): row for row in read_rows(finished.output_dir / "cases.csv")
    }
    tested = Counter()
    for number in range(FOLDS):
        split = read_json(finished.study_dir / f"dataset/fold_{number}/split.json")["cases"]
        assert not set(split["test"]) & {*split["train"], *split["valid"]}
        tested.update(split["test"])
        rows = read_rows(finished.study_dir / f"fold_{number}/evaluation/cases.csv")
        assert {row["case"] for row in rows} == set(split["test"])
        assert all(pooled[row["case"], row["structure"]] == row for row in rows)
    assert tested == {f"pat{number}": 1 for number in range(NUM_CASES)}


def test_the_table_holds_the_mean_over_all_patients(finished):
    rows = read_rows(finished.output_dir / "cases.csv")
    dice = [float(row["dice"]) for row in rows if row["structure"] == "whole_heart"]
    (found,) = [
        row
        for row in read_rows(finished.output_dir / "summary.csv")
        if (row["structure"], row["measure"]) == ("whole_heart", "dice")
    ]
    assert int(found["n"]) == NUM_CASES == len(dice)
    assert float(found["mean"]) == pytest.approx(statistics.fmean(dice), abs=1e-6)
    assert float(found["sd"]) == pytest.approx(statistics.stdev(dice), abs=1e-6)
    page = (finished.output_dir / "report.html").read_text(encoding="utf-8")
    assert "Out-of-fold scores of a study" in page
    assert "fold 1 val_loss" in page


def test_a_study_that_is_killed_twice_finds_the_same_table(data, finished, monkeypatch):
    config = configure(data, "killed")
    with monkeypatch.context() as patch:
        patch.setattr("heartseg.training.loop.write_history", kill)
        with pytest.raises(Killed):
            run_study(config)
    assert not (config.run_dir / "fold_1").exists()
    with monkeypatch.context() as patch:
        patch.setattr("heartseg.pipelines.score_model.write_evaluation", kill)
        with pytest.raises(Killed):
            run_study(config)
    # Killed after training, before the scores of the first fold were written.
    assert (config.run_dir / "fold_0/best.keras").is_file()
    assert not (config.run_dir / "fold_0/evaluation/cases.csv").exists()

    # A patient that cannot be scored is reported, the others are scored, and it is tried again.
    with monkeypatch.context() as patch:
        patch.setattr("heartseg.pipelines.score_model.read_image", refuse_pat3)
        with pytest.raises(BatchError, match=r"1 patient could not be scored(.|\n)*pat3"):
            run_study(config)
    assert read_json(config.run_dir / "evaluation/summary.json")["num_cases"] == NUM_CASES - 1

    result = run_study(config)

    for name in ("summary.csv", "cases.csv", "confusion.csv", "table.md", "table.tex"):
        expected = (finished.output_dir / name).read_text(encoding="utf-8")
        assert (result.output_dir / name).read_text(encoding="utf-8") == expected


def kill(*_arguments, **_options):
    raise Killed


def test_what_is_done_is_not_done_again(data, finished, monkeypatch):
    monkeypatch.setattr(running, "run_folds_here", kill)
    monkeypatch.setattr(running, "run_prepare", kill)
    monkeypatch.setattr(running, "run_split", kill)
    before = read_tree(finished.study_dir / "evaluation")
    again = run_study(configure(data, "uninterrupted", {"infer": {"batch_size": 3}}))
    after = read_tree(finished.study_dir / "evaluation")
    assert again.summary["scopes"] == finished.summary["scopes"]
    assert after.keys() == before.keys()


def test_another_study_does_not_continue_it(data, finished):
    other = configure(data, "uninterrupted", {"train": {**TINY["train"], "learning_rate": 0.02}})
    with pytest.raises(ConfigError, match=r"train.learning_rate: was 0.01, is 0.02"):
        run_study(other)
    with pytest.raises(ConfigError, match="begun with other settings"):
        forecast_study(other)


def refuse_pat3(file):
    from heartseg.scans.volume import read_image

    if file.name.startswith("pat3_"):
        raise DataError(f"{file}: is broken")
    return read_image(file)


def test_the_folder_segments_with_the_mean_of_its_folds(data, finished, tmp_path):
    config = configure(data, "uninterrupted")
    scan = data / "volumes/pat0_cropped_norm.nii.gz"
    assert find_model(config.run_dir) == config.run_dir
    result = run_infer(config, [scan], output_dir=tmp_path / "all")
    labels = np.asarray(nibabel.load(tmp_path / "all/pat0_seg.nii.gz").dataobj)
    assert labels.shape == nibabel.load(scan).shape
    assert all("learned" in row.flags for row in result.volumes)
    with pytest.raises(DataError, match=r"is a study, not a run; its scores are in"):
        run_evaluation(config)


def test_a_forecast_counts_what_is_left_and_writes_nothing(data, finished, monkeypatch):
    before = read_tree(data)
    planned = forecast_study(configure(data, "planned"))
    monkeypatch.setattr("heartseg.study.forecast.measure_steps", lambda _: [COST])
    done = forecast_study(configure(data, "uninterrupted"))
    counted = forecast_study(configure(data, "planned"))
    assert read_tree(data) == before
    assert planned[0].startswith("study of 6 cases in 2 folds, in ")
    assert planned[1] == "prepare: done; folds: to draw"
    assert planned[2] == "fold 0: train 2, valid 1, test 3 patients; 0 of 2 epochs done"
    assert done[1] == "prepare: done; folds: drawn"
    assert done[2] == "fold 0: train 2, valid 1, test 3 patients; done"
    assert "0 s to train 0 folds" in done[4]
    slices = Counter(row["case"] for row in read_rows(data / "master/manifest.csv"))
    seconds = 0.0
    for number in range(FOLDS):
        file = finished.study_dir / f"dataset/fold_{number}/split.json"
        cases = read_json(file)["cases"]
        steps, checks = (-(-sum(slices[c] for c in cases[p]) // 8) for p in ("train", "valid"))
        seconds += EPOCHS * (2.0 * steps + 0.5 * checks)
    assert f"a step takes 2 s here on the CPU, an epoch {steps} steps" in counted[4]
    assert f"at most {format_duration(seconds)} to train 2 folds, 1 at once" in counted[4]
    # Per fold: the weights of the best epoch, those of the last one, and two moments of Adam.
    assert "32.0 MB of models and their states" in counted[5]
    assert counted[6].startswith("memory: about 3.00 GB per fold that trains")


def test_a_forecast_without_data_names_the_folder_as_the_study_does(data):
    config = configure(data, "dataless", {"data": {"master_dir": data / "none"}})
    lost = config.data.model_copy(update={"source_dir": data / "nowhere"})
    config = config.model_copy(update={"data": lost})
    for begin in (forecast_study, run_study):
        with pytest.raises(DataError, match="nowhere: cannot be read as a folder"):
            begin(config)


def test_a_forecast_needs_no_scans_once_the_slices_are_prepared(data, finished, monkeypatch):
    monkeypatch.setattr("heartseg.study.forecast.measure_steps", lambda _: [COST])
    config = configure(data, "planned")
    lost = config.data.model_copy(update={"source_dir": data / "nowhere"})
    lines = forecast_study(config.model_copy(update={"data": lost}))
    assert lines[0].startswith("study of 6 cases in 2 folds")
    assert lines[1] == "prepare: done; folds: to draw"


def test_a_forecast_adds_the_second_stage(data, finished, monkeypatch):
    second = StepCost(4.0, 1.0, parameters=500_000, memory_bytes=4 * 10**9, device="CPU", draw_s=1)
    second = replace(second, start_s=30)
    monkeypatch.setattr("heartseg.study.forecast.measure_steps", lambda _: [COST, second])
    stage = {"enabled": True, "epochs": 3, "steps_per_epoch": 10}
    hearts = {"model": {"kind": "whole_heart"}, "second_stage": stage}
    train = {"epochs": EPOCHS, "steps_per_epoch": 7, "loss": "dice_crossentropy", "metrics": []}
    base = configure(data, "hearts").model_dump(mode="json", exclude={"model", "train"})
    config = Config.model_validate({**base, **hearts, "train": train})
    lines = forecast_study(config.model_copy(update={"parallel": ParallelConfig(folds=2)}))
    assert lines[2].endswith("train 2, valid 1, test 3 patients; 0 of 5 epochs done")
    # One scan is validated: a batch of the first stage, 6 patches of the second.
    seconds = FOLDS * (EPOCHS * (7 * 2.0 + 0.5) + 30 + 3 * (10 * 5.0 + 6 * 1.0))
    assert "an epoch 7 steps; a step of the second stage 5 s here on the CPU" in lines[4]
    # Folds that share the cores take as long as one after the other.
    assert (
        f"at most {format_duration(seconds)} to train 2 folds, 2 at once, which share the cores"
        in lines[4]
    )
    # Per fold 4 times the weights of each network, and those of the second in the joined file.
    models = FOLDS * 4 * (4 * 1_000_000 + 5 * 500_000) / 1e6
    assert f"{models:.1f} MB of models and their states" in lines[5]
    assert lines[6].startswith("memory: about 4.00 GB per fold")


def test_a_study_is_not_continued_with_another_second_stage(data, finished):
    config = configure(data, "uninterrupted")
    changed = config.second_stage.model_copy(update={"enabled": True})
    with pytest.raises(ConfigError, match=r"second_stage.enabled: was False, is True"):
        run_study(config.model_copy(update={"second_stage": changed}))


def test_a_fold_that_cannot_begin_names_the_reason(data, monkeypatch):
    monkeypatch.setattr(running, "run_folds_here", lambda *_: ["fold 1: no memory"])
    with pytest.raises(BatchError, match=r"1 of 2 folds failed(.|\n)*fold 1: no memory"):
        run_study(configure(data, "failing"))


def test_a_study_that_is_overwritten_begins_anew_and_leaves_what_is_not_its_own(data, monkeypatch):
    monkeypatch.setattr(running, "run_folds_here", lambda *_: ["fold 1: no memory"])
    config = configure(data, "overwritten")
    with pytest.raises(BatchError):
        run_study(config)
    (config.run_dir / "fold_0").mkdir()
    for name in ("fold_0/best.keras", "notes.txt"):
        (config.run_dir / name).touch()
    changed = configure(data, "overwritten", {"split": {"folds": 3}})
    with pytest.raises(ConfigError, match=r"split.folds: was 2, is 3"):
        run_study(changed)
    with pytest.raises(BatchError):
        run_study(changed, overwrite=True)
    assert not (config.run_dir / "fold_0").exists()
    assert (config.run_dir / "notes.txt").is_file()
    assert (config.run_dir / "dataset/fold_2").is_dir()


def test_a_folder_with_a_single_run_is_left_alone(data):
    config = configure(data, "single")
    config.run_dir.mkdir()
    (config.run_dir / "best.keras").touch()
    with pytest.raises(DataError, match=r"holds a single run; choose another folder"):
        plan_study(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"by": "slice"}}, "draws folds by patient"),
        (
            {"split": {"train_cases": ["a"], "valid_cases": [], "test_cases": ["b"]}},
            "draws folds by patient",
        ),
        ({"parallel": {"num_processes": 2, "coordinator": "a:1"}}, "trains each fold in one"),
    ],
)
def test_what_fits_no_study_is_refused(data, changes, message):
    with pytest.raises(ConfigError, match=message):
        plan_study(configure(data, "none", changes))


def test_without_folds_there_are_five(data):
    assert plan_study(configure(data, "none", {"split": {}})).config.split.folds == 5
