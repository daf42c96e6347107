"""The folds of a study at work: in processes of this machine, or on the workers of a cluster."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from heartseg.config.loading import write_config
from heartseg.config.schema import PACKAGED, Config
from heartseg.parallel import map_cases
from heartseg.study.fold import run_fold
from heartseg.study.plan import Study
from heartseg.study.worker import PROBLEM

logger = logging.getLogger(__name__)

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
THREAD_LIMITS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
NOTES_SHOWN = 2000
"""Characters of what a crashed worker wrote at last that its error shows."""


def find_places(config: Config) -> list[Mapping[str, str]]:
    """Return the settings of the environment for each fold that trains at once on this machine.

    With several GPUs each fold has one of its own. Otherwise the folds share the cores.
    """
    gpus = _list_gpus()
    count = config.parallel.folds or max(len(gpus), 1)
    if len(gpus) > 1:
        return [{VISIBLE_GPUS: gpus[number % len(gpus)]} for number in range(count)]
    if count == 1:
        return [{}]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    return [dict.fromkeys(THREAD_LIMITS, threads) for _ in range(count)]


def _list_gpus() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    from heartseg.training.devices import find_gpus

    count = len(find_gpus())
    named = [name for name in os.environ.get(VISIBLE_GPUS, "").split(",") if name]
    return named if len(named) == count else [str(number) for number in range(count)]


def run_folds_here(
    study: Study, folds: Sequence[int], places: Sequence[Mapping[str, str]]
) -> list[str]:
    """Run folds, each in a process of its own, as many at once as there are places.

    Args:
        study: The study.
        folds: The numbers of the folds to run.
        places: What the environment of each process is given; see ``find_places``.

    Returns:
        One message per fold that failed.
    """
    free: SimpleQueue[Mapping[str, str]] = SimpleQueue()
    for place in places:
        free.put(place)
    crew = _Crew()
    with (
        tempfile.TemporaryDirectory(prefix="heartseg-") as folder,
        ThreadPoolExecutor(len(places)) as pool,
    ):

        def run(number: int) -> str | None:
            place = free.get()
            try:
                config_file = Path(folder) / f"fold_{number}.yaml"
                write_config(study.fold_config(number), config_file)
                return crew.run(number, config_file, place)
            finally:
                free.put(place)

        running = [pool.submit(run, number) for number in folds]
        try:
            outcomes = [future.result() for future in as_completed(running)]
        finally:
            # After an interruption nothing is lost: every file is complete at any moment.
            crew.end()
            for future in running:
                future.cancel()
    return [outcome for outcome in outcomes if outcome is not None]


@dataclass
class _Crew:
    """The processes at work, which end together."""

    processes: "set[subprocess.Popen[str]]" = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False

    def run(self, number: int, config_file: Path, place: Mapping[str, str]) -> str | None:
        """Run a fold to its end; return what went wrong, if anything did."""
        arguments = ("-m", "heartseg.study.worker", str(config_file), str(os.getpid()))
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as notes:
            with self.lock:
                if self.ended:
                    return None
                process = subprocess.Popen(  # noqa: S603 - this program, and its own file
                    [sys.executable, *arguments],
                    stdout=subprocess.PIPE,
                    stderr=notes,
                    text=True,
                    encoding="utf-8",
                    env={**os.environ, **place},
                )
                self.processes.add(process)
            with process:
                problem = _relay(number, process.stdout)
            with self.lock:
                self.processes.discard(process)
            if process.returncode == 0 or self.ended:
                return None
            return problem or _explain_crash(number, process.returncode, notes)

    def end(self) -> None:
        """End all processes, and let no other begin."""
        with self.lock:
            self.ended = True
            for process in self.processes:
                process.kill()


def _relay(number: int, stream: IO[str] | None) -> str | None:
    """Log what a worker logs until it ends; return the message of its error, if it has one."""
    problem = None
    for line in stream or ():
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            # A library wrote to the standard output.
            continue
        if PROBLEM in message:
            problem = f"fold {number}: {message[PROBLEM]}"
        else:
            logger.log(message["level"], "fold %d: %s", number, message["text"])
    return problem


def _explain_crash(number: int, code: int, notes: IO[str]) -> str:
    notes.seek(0)
    last = notes.read()[-NOTES_SHOWN:].strip()
    if code < 0:
        return (
            f"fold {number}: its process was killed (signal {-code}), most likely because memory "
            "ran out; run the command again, which continues after the last finished epoch"
        )
    return f"fold {number}: its process ended with code {code}. Its last words:\n{last}"


def run_folds_on_cluster(study: Study, folds: Sequence[int]) -> list[str]:
    """Run folds on the workers of the cluster that the section ``parallel`` names.

    A fold whose worker is lost goes on at another one, after its last finished epoch.

    Returns:
        One message per fold that failed.
    """
    parallel = study.config.parallel
    outcomes = map_cases(
        run_fold,
        [_absolute(study.fold_config(number)) for number in folds],
        backend="dask",
        address=parallel.address,
        describe=lambda config: config.run_dir.name,
    )
    return [
        f"fold {outcome.item.split.fold}: {outcome.problem}"
        for outcome in outcomes
        if outcome.problem is not None
    ]


def _absolute(config: Config) -> Config:
    """Return a configuration for a worker: absolute paths, and no cluster within the cluster."""
    data = config.data
    folders = {
        key: getattr(data, key).absolute() for key in ("source_dir", "master_dir", "dataset_dir")
    }
    if data.clinical_file is not None:
        folders["clinical_file"] = data.clinical_file.absolute()
    local = {"backend": "loky", "address": None, "jobs": 1}
    maps, init = config.synthesis.label_maps_dir, config.train.init
    if init is not None and init != PACKAGED:
        init = str(Path(init).absolute())
    return config.model_copy(
        update={
            "run_dir": config.run_dir.absolute(),
            "data": data.model_copy(update=folders),
            "synthesis": config.synthesis.model_copy(
                update={"label_maps_dir": None if maps is None else maps.absolute()}
            ),
            "train": config.train.model_copy(update={"init": init}),
            "parallel": config.parallel.model_copy(update=local),
        }
    )
