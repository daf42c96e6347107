"""Processes killed at random moments: the next run ends as an undisturbed one would have.

``HEARTSEG_KILLS=200 pytest tests/robustness/test_kill.py`` kills more often.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.pipelines.prepare import run_prepare

KILLS = int(os.environ.get("HEARTSEG_KILLS", "12"))
TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("command", ["prepare", "split"])
def test_a_killed_run_is_completed_to_the_same_bytes(tmp_path, command):
    for index in range(4):
        write_case(tmp_path / "volumes", f"pat{index}", make_scan((18, 15, 13), seed=index))
    if command == "split":
        run_prepare(make_config(tmp_path))

    ran = subprocess.run(
        [sys.executable, TESTS / "robustness/kill_loop.py", command, tmp_path, str(KILLS), "1"],
        capture_output=True,
        text=True,
        timeout=60 + 10 * KILLS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )

    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= KILLS // 3
    result = read_tree(tmp_path / {"prepare": "master", "split": "dataset"}[command])
    assert result == read_tree(tmp_path / "undisturbed")
