"""Folds in processes of their own: their places, their errors, their progress."""

import os

import pytest
from builders import make_config

from heartseg.study import workers
from heartseg.study.plan import plan_study
from heartseg.study.progress import FoldProgress, StageProgress, describe, format_duration
from heartseg.training.devices import Gpu


@pytest.fixture
def study(tmp_path):
    return plan_study(make_config(tmp_path, {"split": {"folds": 3}, "train": {"epochs": 10}}))


def test_the_error_of_a_fold_comes_back_from_its_process(study):
    (problem,) = workers.run_folds_here(study, [2], [{}])
    assert problem.startswith("fold 2: ")
    assert "no train/ and valid/ slices; run `heartseg split` first" in problem


def test_a_process_that_crashes_leaves_its_last_words(study):
    problems = workers.run_folds_here(study, [0, 1], [{"PYTHONHOME": os.devnull}] * 2)
    assert len(problems) == 2
    assert all("its process ended with code" in problem for problem in problems)
    assert all("encodings" in problem for problem in problems)


@pytest.mark.parametrize(
    ("gpus", "folds", "visible", "places"),
    [
        (0, None, "", [{}]),
        (1, None, "", [{}]),
        (2, None, "", [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
        (2, None, "4,7", [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}]),
        (2, 1, "", [{"CUDA_VISIBLE_DEVICES": "0"}]),
        (0, 2, "", [dict.fromkeys(workers.THREAD_LIMITS, "3")] * 2),
    ],
)
def test_each_fold_at_work_has_a_gpu_or_its_share_of_the_cores(
    tmp_path, monkeypatch, gpus, folds, visible, places
):
    monkeypatch.setattr("heartseg.training.devices.find_gpus", lambda: [Gpu("test", (9, 0))] * gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    config = make_config(tmp_path, {"parallel": {"folds": folds}})
    assert workers.find_places(config) == places


def test_a_cluster_gets_absolute_paths_and_no_cluster_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(workers, "map_cases", lambda work, items, **_: seen.extend(items) or [])
    config = make_config(
        tmp_path.relative_to(tmp_path),
        {"parallel": {"backend": "dask", "address": "a:1"}, "split": {"folds": 2}},
    )
    assert workers.run_folds_on_cluster(plan_study(config), [0, 1]) == []
    assert [config.split.fold for config in seen] == [0, 1]
    for config in seen:
        folders = (config.run_dir, config.data.source_dir, config.data.dataset_dir)
        assert all(folder.is_absolute() for folder in folders)
        assert config.parallel.backend == "loky"


def test_progress_counts_epochs_and_patients_and_says_what_is_left():
    done = FoldProgress((StageProgress(4, (3.0, 2.0, 1.0, 1.5), (10.0,) * 4),), True, 2, True)
    busy = FoldProgress((StageProgress(2, (3.0, 2.0), (20.0,) * 2),), False, 0, False)
    fresh = FoldProgress((StageProgress(),), False, 0, False)
    counted, total, text = describe([done, busy, fresh], [2, 2, 2], epochs=[10], at_once=2)
    # The first fold stopped after 4 of 10 epochs, which then count as 10.
    assert (counted, total) == (10 + 2 + 2, 3 * 10 + 3 * 2)
    # 8 + 10 epochs of 80 / 6 s on two places.
    assert text == "fold 1: epoch 2 of 10, loss 2; at most 2 min of training left"


def test_progress_of_a_second_stage_counts_its_epochs():
    first = StageProgress(4, (3.0, 2.0, 1.0, 1.5), (10.0,) * 4)
    busy = FoldProgress((first, StageProgress(3, (0.9, 0.8, 0.7), (20.0,) * 3)), False, 0, False)
    fresh = FoldProgress((StageProgress(), StageProgress()), False, 0, False)
    counted, total, text = describe([busy, fresh], [1, 1], epochs=[10, 6], at_once=1)
    # The first stage stopped after 4 of 10 epochs, which then count as 10.
    assert (counted, total) == (10 + 3, 2 * (10 + 6) + 2)
    # 10 epochs of 10 s, and 3 + 6 of 20 s.
    assert text == ("fold 0: second stage, epoch 3 of 6, loss 0.7; at most 5 min of training left")
    begun = FoldProgress((first, StageProgress()), False, 0, False)
    _, _, text = describe([begun], [1], epochs=[10, 6], at_once=1)
    assert text.endswith("at most 60 s of training left before the second stage")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_a_duration_is_shown_in_units_of_its_size(seconds, text):
    assert format_duration(seconds) == text
