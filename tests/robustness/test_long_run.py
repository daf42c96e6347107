"""A short version of the long run, and tests that it notices growth and untrue progress."""

import pytest
from builders import make_scan
from robustness.long_run import Witness, find_growth, make_volumes, measure_steps


@pytest.mark.slow
def test_memory_and_handles_stay_flat_and_progress_is_true(tmp_path):
    scans = [make_scan((20, 18, 110), seed=index) for index in range(4)]
    maps = [(scan.labels, scan.affine) for scan in scans]
    assert make_volumes(tmp_path / "volumes", maps, 400) >= 4
    measured = measure_steps(tmp_path, side=32)
    assert measured["prepare"]["result"] == {"slices": 400}
    assert sum(measured["split"]["result"].values()) == 400
    assert measured["train"]["result"]["epochs"] == 1
    for facts in measured.values():
        assert (facts["growth"], facts["lies"]) == (None, [])


def samples(amounts, what):
    return [{"bytes": 10**9, "handles": 20, what: amount} for amount in amounts]


def test_growth_is_noticed():
    assert find_growth(samples([10**9] * 40, "bytes")) is None
    # Memory that is allocated in the beginning is not a leak.
    assert find_growth(samples([10**8] * 5 + [10**9] * 35, "bytes")) is None
    leak = [10**9 + 2 * 10**7 * step for step in range(40)]
    assert "bytes grew" in find_growth(samples(leak, "bytes"))
    assert "handles grew" in find_growth(samples(range(20, 60), "handles"))


def test_untrue_progress_is_noticed():
    on_disk = [0]
    witness = Witness(lambda: on_disk[0])
    witness(0, 3, "begin")
    on_disk[0] = 1
    witness(1, 3, "a")
    assert witness.lies == []
    witness(2, 3, "b")
    assert witness.lies == ["2 of 3 reported, 1 on disk (b)"]
    witness(1, 3, "c")
    witness(4, 3, "d")
    assert len(witness.lies) == 4
