"""A real Dask cluster on this machine: workers are killed, and no result is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from builders import make_config, make_scan, read_tree, write_case

from heartseg.config.schema import Config
from heartseg.errors import ConfigError
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.networks.unet import build_unet
from heartseg.parallel import map_cases
from heartseg.pipelines.infer import run_infer
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.score_label_maps import run_scoring
from heartseg.pipelines.score_model import run_evaluation
from heartseg.pipelines.split import run_split
from heartseg.slices.recipe import SliceRecipe

pytestmark = [
    pytest.mark.skipif(
        find_spec("distributed") is None,
        reason="distributed is not installed (heartseg[cluster])",
    ),
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
    # The client's connections are closed when its objects are garbage-collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
START_S = 120


class Cluster:
    """A scheduler and its workers, each a process of its own that can be killed."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []
        # The scheduler gives up on a task when it has lost its second worker.
        self.env = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
            "PYTHONPATH": str(folder),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        file = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        while not file.exists():
            assert self.processes[0].poll() is None
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"].removeprefix("tcp://")
        self.workers = [self._start_worker() for _ in range(2)]
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=START_S)

    def _start_worker(self):
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny")

    def _start(self, role, *options):
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", role, *map(str, options), "--no-dashboard"],
            # A working directory of its own, as on another machine.
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def kill_a_worker(self):
        self.workers.pop().send_signal(signal.SIGKILL)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    running = Cluster(folder)
    yield running
    running.close()


def on(cluster):
    return {"parallel": {"backend": "dask", "address": cluster.address}}


def killing(cluster, *, after):
    """Return a progress callback that kills a worker after some cases, and its calls."""
    calls = []

    def report(done, total, what):
        calls.append((done, total))
        if done == after and len(cluster.workers) == 2:
            cluster.kill_a_worker()

    return report, calls


def test_a_worker_killed_while_it_prepares_and_scores_changes_no_byte(cluster, tmp_path):
    for number in range(8):
        write_case(tmp_path / "volumes", f"pat{number}", make_scan(seed=number))
    run_prepare(make_config(tmp_path))
    here = read_tree(tmp_path / "master")

    elsewhere = {**on(cluster), "data": {"master_dir": tmp_path / "far"}}
    report, calls = killing(cluster, after=2)
    run_prepare(make_config(tmp_path, elsewhere), report=report)

    assert len(cluster.workers) == 1
    assert calls == [(done, 8) for done in range(1, 9)]
    assert read_tree(tmp_path / "far") == here

    folders = tmp_path / "volumes", tmp_path / "volumes"
    for name, sections in (("scores", {}), ("far_scores", on(cluster))):
        config = make_config(tmp_path, {**sections, "evaluate": {"num_bootstrap": 50}})
        run_scoring(config, *folders, output_dir=tmp_path / name)
    scores, far_scores = (tmp_path / name / "cases.csv" for name in ("scores", "far_scores"))
    assert far_scores.read_bytes() == scores.read_bytes()


def write_model(run_dir):
    recipe = SliceRecipe(image_height=32, image_width=24, image_channels=1)
    model = build_unet(image_size=(32, 24), image_channels=1, num_layers=2, base_filters=4, seed=5)
    labels = [
        {"value": s.value, "key": s.key, "name": s.name, "color": list(s.color)}
        for s in HVSMR.structures
    ]
    metadata = {"recipe": recipe.to_dict(), "labels": labels}
    save_model(model, run_dir / "best.keras", metadata)


SMALL = {"model": {"num_layers": 2, "image_channels": 1}, "evaluate": {"num_bootstrap": 50}}


@pytest.mark.slow
def test_a_worker_killed_while_it_segments_changes_no_byte(cluster, tmp_path, monkeypatch):
    write_model(tmp_path / "run")
    for number in range(6):
        write_case(tmp_path / "volumes", f"pat{number}", make_scan(seed=number))
    # Relative paths: they mean another folder to a worker.
    monkeypatch.chdir(tmp_path)
    run_infer(make_config(Path(), SMALL), [Path("volumes")], output_dir=Path("here"))
    report, _ = killing(cluster, after=2)
    far = make_config(Path(), {**SMALL, **on(cluster)})
    result = run_infer(far, [Path("volumes")], output_dir=Path("far"), report=report)

    assert result.num_volumes == 6
    assert len(cluster.workers) == 1
    assert read_tree(tmp_path / "far") == read_tree(tmp_path / "here")


def test_workers_segment_with_the_packaged_model_without_tensorflow(cluster, tmp_path, hvsmr2):
    from distributed import Client

    scan = hvsmr2 / "cropped_norm/pat58_cropped_norm.nii.gz"
    result = run_infer(
        Config(**on(cluster)), [scan, scan.parent], output_dir=tmp_path, packaged=True
    )

    assert result.num_volumes == 2
    with Client(cluster.address, set_as_default=False) as client:
        loaded = client.run(lambda: sorted({"onnxruntime", "tensorflow", "keras"} & {*sys.modules}))
    # One worker may have been quick enough to segment both.
    assert {name for names in loaded.values() for name in names} == {"onnxruntime"}


@pytest.mark.slow
def test_a_run_has_the_same_scores_on_a_cluster(cluster, tmp_path, monkeypatch):
    write_model(tmp_path / "run")
    for number in range(6):
        write_case(tmp_path / "volumes", f"pat{number}", make_scan(seed=number))
    monkeypatch.chdir(tmp_path)
    split = {"split": {"train_fraction": 0.2, "valid_fraction": 0.2}}
    here = make_config(Path(), {**SMALL, **split})
    run_prepare(here)
    run_split(here)
    run_evaluation(here, output_dir=Path("here"))
    report, calls = killing(cluster, after=1)
    far = make_config(Path(), {**SMALL, **split, **on(cluster)})
    run_evaluation(far, output_dir=Path("far"), report=report)

    assert calls[-1] == (4, 4)
    assert len(cluster.workers) == 1
    one, other = (read_tree(tmp_path / name) for name in ("here", "far"))
    # The report shows the configuration, which names the cluster.
    assert one.keys() == other.keys()
    assert {n for n in one if one[n] != other[n]} <= {"report.html"}


def test_work_that_kills_every_worker_is_a_problem_and_does_not_wait_forever(cluster, monkeypatch):
    (cluster.folder / "deadly.py").write_text("import os\ndef work(_): os._exit(1)\n")
    monkeypatch.syspath_prepend(cluster.folder)
    import deadly

    outcomes = map_cases(deadly.work, ["pat4"], backend="dask", address=cluster.address)
    assert outcomes[0].result is None
    assert "pat4: each worker that tried it was lost" in outcomes[0].problem


def test_a_scheduler_that_does_not_answer_is_an_error_with_its_address(monkeypatch):
    monkeypatch.setattr("heartseg.parallel.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at 127.0.0.1:1 "):
        map_cases(np.sqrt, [1.0], backend="dask", address="127.0.0.1:1")


def test_missing_packages_are_an_error_with_the_command_that_installs_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'heartseg\[cluster\]'"):
        map_cases(np.sqrt, [1.0], backend="dask", address="127.0.0.1:1")
