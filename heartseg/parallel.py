"""The same work for many cases: in parallel, with progress; if one fails, the others go on."""

import os
import threading
import time
from asyncio import TimeoutError as AsyncTimeoutError
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from heartseg import __version__
from heartseg.errors import ConfigError, HeartsegError
from heartseg.progress import Report, silent

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 10
WORKERS_TIMEOUT_S = 60
_WATCH_EVERY_S = 0.2


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """The result or the error of one item.

    Attributes:
        item: The item.
        result: What the work returned; None if it failed.
        problem: The message of the error; None if the work succeeded.
    """

    item: Item
    result: Result | None = None
    problem: str | None = None


def place_for_workers(path: Path, backend: str) -> Path:
    """Return a path that is valid in the processes that do the work.

    It is absolute for the workers of a cluster, which have their own working directories. On one
    machine it stays as the user wrote it, so that messages show it as written.
    """
    return path.absolute() if backend == "dask" else path


def map_cases(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int = -1,
    backend: str = "loky",
    address: str | None = None,
    report: Report = silent,
    describe: Callable[[Item], str] = str,
) -> list[Outcome[Item, Result]]:
    """Apply ``work`` to each item; continue if it fails with an error that the user can fix.

    Args:
        work: Importable function of one item (worker processes import it by name). On a cluster
            all paths in an item must be absolute, and ``work`` is called again for an item whose
            worker was lost.
        items: The items.
        jobs: Number of processes: -1 for one per core, 1 to work in this process. A cluster uses
            all its workers.
        backend: Backend of joblib, or ``dask`` for the workers of a cluster.
        address: ``HOST:PORT`` of the scheduler, for ``dask``.
        report: Called after each item.
        describe: Returns the name of an item for ``report``.

    Returns:
        One outcome per item, in the order of the items.

    Raises:
        HeartsegError: If a worker process is killed, or the cluster cannot be used.
    """
    finished = (
        _map_on_cluster(work, items, address)
        if backend == "dask"
        else _map_here(work, items, jobs, backend)
    )
    outcomes: dict[int, Outcome[Item, Result]] = {}
    for position, outcome in finished:
        outcomes[position] = outcome
        report(len(outcomes), len(items), describe(items[position]))
    return [outcomes[position] for position in range(len(items))]


def _map_here(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, backend: str
) -> Iterator[tuple[int, Outcome[Item, Result]]]:
    """Yield the position and outcome of each item when a process of this machine has done it."""
    from joblib import Parallel, cpu_count, delayed

    if jobs < 0:
        jobs = max(1, cpu_count() + 1 + jobs)
    jobs = max(1, min(jobs, len(items)))
    # A single process needs no spawning, and an error keeps its plain traceback.
    backend = "sequential" if jobs == 1 and backend == "loky" else backend
    pool = Parallel(n_jobs=jobs, backend=backend, return_as="generator_unordered")
    try:
        yield from pool(
            delayed(_attempt_here)(work, position, item, os.getpid())
            for position, item in enumerate(items)
        )
    except BrokenProcessPool as error:
        raise HeartsegError(
            "a worker process was killed, most likely because memory ran out; free memory, or use "
            "fewer processes (parallel.jobs), and run the command again"
        ) from error


def _map_on_cluster(
    work: Callable[[Item], Result], items: Sequence[Item], address: str | None
) -> Iterator[tuple[int, Outcome[Item, Result]]]:
    """Yield the position and outcome of each item when a worker of a Dask cluster has done it.

    The scheduler gives the items of a lost worker to another worker. This does not use joblib,
    because its Dask backend never returns if an item has lost so many workers that the scheduler
    gives up on it.
    """
    with _joined(address) as client:
        from distributed import CancelledError, KilledWorker, as_completed
        from distributed.comm import CommClosedError

        positions = {
            client.submit(_attempt, work, position, item, pure=False): position
            for position, item in enumerate(items)
        }
        try:
            for future in as_completed(positions, loop=client.loop):
                position = positions[future]
                try:
                    yield future.result()
                except KilledWorker as error:
                    problem = (
                        f"{items[position]}: each worker that tried it was lost, most likely "
                        f"because it ran out of memory; give the workers more memory ({error})"
                    )
                    yield position, Outcome(items[position], problem=problem)
        except (CancelledError, CommClosedError) as error:
            raise HeartsegError(
                f"the Dask scheduler at {address} was lost; start it again, then run the command "
                "again, which does only what is missing"
            ) from error


@contextmanager
def _joined(address: str | None) -> "Iterator[Client]":
    """Connect to a cluster that has a worker, and on each worker the heartseg version of here."""
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ConfigError(
            "parallel.backend: dask needs packages that are not installed; run pip install "
            "'heartseg[cluster]'"
        ) from error
    if address is None:
        raise ConfigError("parallel.address: expected HOST:PORT of the Dask scheduler, found none")
    try:
        client = distributed.Client(address, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, AsyncTimeoutError) as error:
        raise ConfigError(
            f"parallel.address: no Dask scheduler answers at {address} within "
            f"{CONNECT_TIMEOUT_S} s; start one (dask scheduler), or set parallel.backend to loky"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
        except (OSError, AsyncTimeoutError) as error:
            raise ConfigError(
                f"parallel.address: the Dask scheduler at {address} has had no worker for "
                f"{WORKERS_TIMEOUT_S} s; start some (dask worker {address} --nthreads 1)"
            ) from error
        versions = client.run(_installed_version, on_error="return")
        others = {name: found for name, found in versions.items() if found != __version__}
        if others:
            raise ConfigError(
                f"expected heartseg {__version__}, as here, on every Dask worker; found "
                + ", ".join(f"{found!r} on {name}" for name, found in others.items())
            )
        yield client


def _installed_version() -> str:
    return __version__


def _attempt_here(
    work: Callable[[Item], Result], position: int, item: Item, parent: int
) -> tuple[int, Outcome[Item, Result]]:
    end_with(parent)
    return _attempt(work, position, item)


def _attempt(
    work: Callable[[Item], Result], position: int, item: Item
) -> tuple[int, Outcome[Item, Result]]:
    try:
        return position, Outcome(item, result=work(item))
    except HeartsegError as error:
        return position, Outcome(item, problem=str(error))


@cache
def end_with(parent: int) -> None:
    """Let this worker process end soon after the process that started it.

    Otherwise the workers of a killed command would finish the queue, and write into the folder of
    the next run.

    Args:
        parent: The id of that process.
    """
    if os.getpid() == parent:
        # The worker is a thread of that process.
        return
    if os.getppid() != parent:
        # That process was killed before this worker started.
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_EVERY_S)
    os._exit(1)
