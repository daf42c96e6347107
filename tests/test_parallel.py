import os
import signal
import sys

import pytest

from heartseg.errors import DataError, HeartsegError
from heartseg.parallel import map_cases


def halve(number):
    if number % 2:
        raise DataError(f"{number}: is odd")
    return number // 2


def crash(number):
    raise ZeroDivisionError(number)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_stops_no_other_item_and_the_order_stays(jobs):
    reported = []

    outcomes = map_cases(
        halve, [4, 7, 10, 1], jobs=jobs, report=lambda *call: reported.append(call), describe=str
    )

    assert [outcome.item for outcome in outcomes] == [4, 7, 10, 1]
    assert [outcome.result for outcome in outcomes] == [2, None, 5, None]
    assert [outcome.problem for outcome in outcomes] == [None, "7: is odd", None, "1: is odd"]
    assert [(done, total) for done, total, _ in reported] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(what for *_, what in reported) == ["1", "10", "4", "7"]


@pytest.mark.parametrize("jobs", [-1000, -1, 0, 1, 1000])
def test_any_number_of_jobs_is_brought_into_range(jobs):
    assert [o.result for o in map_cases(halve, [2], jobs=jobs)] == [1]


def die(_number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_a_killed_worker_is_an_error_with_advice():
    with pytest.raises(HeartsegError, match=r"worker process was killed.*parallel\.jobs"):
        map_cases(die, [1, 2, 3], jobs=2)


def test_no_items_give_no_outcomes():
    assert map_cases(halve, []) == []


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        map_cases(crash, [1], jobs=1)
