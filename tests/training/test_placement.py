"""Training with several processes, without starting them: each one's answer to the others."""

import keras
import numpy as np
import pytest

from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.training import placement
from heartseg.training.placement import Hosts, Placement, placed

FIRST, SECOND = (Placement(num_replicas=2, num_processes=2, process_index=i) for i in (0, 1))


@pytest.fixture
def others(monkeypatch):
    """Let a test set the values of the other process, given those of this one."""

    def set_answer(answer):
        monkeypatch.setattr(placement, "_gather", lambda values: np.stack([values, answer(values)]))

    return set_answer


def test_a_single_process_does_everything_itself():
    done = []
    alone = Placement()
    alone.in_first(lambda: done.append(1))
    alone.check_equal("anything")
    assert done == [1]
    assert alone.is_first
    assert alone.agree({"loss": 0.1}) == {"loss": 0.1}


def test_only_the_first_process_does_the_work_of_in_first(others):
    others(lambda values: values)
    done = []
    for place in (FIRST, SECOND):
        place.in_first(lambda place=place: done.append(place.process_index))
    assert done == [0]


def test_a_failure_in_the_first_process_is_an_error_in_all(others):
    def fail():
        raise DataError("the disk is full")

    others(lambda values: values)
    with pytest.raises(DataError, match="disk is full"):
        FIRST.in_first(fail)
    others(np.zeros_like)
    with pytest.raises(ModelError, match="first process failed"):
        SECOND.in_first(fail)


def test_work_in_the_first_process_is_not_distributed(others):
    others(lambda values: values)
    seen = []
    FIRST.in_first(lambda: seen.append(keras.distribution.distribution()))
    assert seen == [None]


def test_processes_that_differ_are_named(others):
    others(lambda values: values)
    FIRST.check_equal("epochs: 3")
    others(lambda values: values[::-1])
    with pytest.raises(ConfigError, match=r"process_index \[1\] differ from the first"):
        FIRST.check_equal("epochs: 3")


def test_all_processes_use_the_values_of_the_first(others, monkeypatch):
    monkeypatch.setattr(placement, "_gather", lambda values: np.stack([values * 2, values]))
    assert SECOND.agree({"loss": 0.25, "val_loss": 1.5}) == {"loss": 0.5, "val_loss": 3.0}


def test_several_processes_on_tensorflow_are_refused_with_what_to_do():
    with (
        pytest.raises(ConfigError, match=r"heartseg\[jax\] and set KERAS_BACKEND=jax"),
        placed(Hosts(2, 0, "127.0.0.1:1")),
    ):
        pass
