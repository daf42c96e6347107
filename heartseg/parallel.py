"""One way to do the same work for many cases: in parallel, with progress, none lost to another."""

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
    """What became of one item.

    Attributes:
        item: The item.
        result: What the work returned; None if it failed.
        problem: The message of the error; None if the work succeeded.
    """

    item: Item
    result: Result | None = None
    problem: str | None = None


def place_for_workers(path: Path, backend: str) -> Path:
    """Return a path as the processes that do the work must see it.

    The workers of a cluster have working directories of their own. On one machine a path stays as
    the user wrote it, in messages too.
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
    """Apply ``work`` to each item, and go on when one fails in a way that the user can mend.

    Args:
        work: Importable function of one item (worker processes import it by name). On a cluster
            it may be called again for an item whose worker was lost, and the paths that it is
            given must be absolute.
        items: What to work on.
        jobs: Processes at once; -1 is one a core, 1 works in this process. A cluster has as many
            as it has workers.
        backend: Backend of joblib, or ``dask`` for the workers of a cluster.
        address: ``HOST:PORT`` of the scheduler, for ``dask``.
        report: Told after each item.
        describe: Gives the name of an item for ``report``.

    Returns:
        One outcome an item, in the order of the items.

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
    """Yield position and outcome of each item as it is done by a process of this machine."""
    from joblib import Parallel, cpu_count, delayed

    if jobs < 0:
        jobs = max(1, cpu_count() + 1 + jobs)
    jobs = max(1, min(jobs, len(items)))
    # One process: nothing to spawn, and an error keeps its plain traceback.
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
    """Yield position and outcome of each item as it is done by a worker of a Dask cluster.

    The scheduler gives the items of a lost worker to another. Not through joblib, whose Dask
    backend never returns when an item has lost so many workers that the scheduler gives it up.
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
                        f"because memory ran out; give the workers more memory ({error})"
                    )
                    yield position, Outcome(items[position], problem=problem)
        except (CancelledError, CommClosedError) as error:
            raise HeartsegError(
                f"the Dask scheduler at {address} was lost; start it again and run the command "
                "again: it does what is missing"
            ) from error


@contextmanager
def _joined(address: str | None) -> "Iterator[Client]":
    """Connect to a cluster that has a worker, and the same heartseg on each."""
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ConfigError(
            "parallel.backend: dask needs packages that are not installed; pip install "
            "'heartseg[cluster]'"
        ) from error
    if address is None:
        raise ConfigError("parallel.address: expected HOST:PORT of the Dask scheduler, got nothing")
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
                f"every Dask worker needs heartseg {__version__}, as here; found "
                + ", ".join(f"{found!r} on {name}" for name, found in others.items())
            )
        yield client


def _installed_version() -> str:
    return __version__


def _attempt_here(
    work: Callable[[Item], Result], position: int, item: Item, parent: int
) -> tuple[int, Outcome[Item, Result]]:
    _end_with(parent)
    return _attempt(work, position, item)


def _attempt(
    work: Callable[[Item], Result], position: int, item: Item
) -> tuple[int, Outcome[Item, Result]]:
    try:
        return position, Outcome(item, result=work(item))
    except HeartsegError as error:
        return position, Outcome(item, problem=str(error))


@cache
def _end_with(parent: int) -> None:
    """Let a worker end soon after the process that started it, if that is killed.

    It would go on with the items that are queued, and write into the folder of the next run.
    """
    if os.getpid() == parent:
        # Not a worker, but a thread.
        return
    if os.getppid() != parent:
        # It was killed before this worker had begun.
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_EVERY_S)
    os._exit(1)
