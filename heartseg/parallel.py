"""One way to do the same work for many cases: in parallel, with progress, none lost to another."""

from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Generic, TypeVar

from heartseg.errors import HeartsegError
from heartseg.progress import Report, silent

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def map_cases(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int = -1,
    backend: str = "loky",
    report: Report = silent,
    describe: Callable[[Item], str] = str,
) -> list[Outcome[Item, Result]]:
    """Apply ``work`` to each item, and go on when one fails in a way that the user can mend.

    Args:
        work: Importable function of one item (worker processes import it by name).
        items: What to work on.
        jobs: Processes at once; -1 is one a core, 1 works in this process.
        backend: Backend of joblib; ``dask`` needs a running client.
        report: Told after each item.
        describe: Gives the name of an item for ``report``.

    Returns:
        One outcome an item, in the order of the items.

    Raises:
        HeartsegError: If a worker process is killed.
    """
    from joblib import Parallel, cpu_count, delayed

    if jobs < 0:
        jobs = max(1, cpu_count() + 1 + jobs)
    jobs = max(1, min(jobs, len(items)))
    # One process: nothing to spawn, and an error keeps its plain traceback.
    backend = "sequential" if jobs == 1 and backend == "loky" else backend
    pool = Parallel(n_jobs=jobs, backend=backend, return_as="generator_unordered")
    outcomes: dict[int, Outcome[Item, Result]] = {}
    try:
        for position, outcome in pool(
            delayed(_attempt)(work, position, item) for position, item in enumerate(items)
        ):
            outcomes[position] = outcome
            report(len(outcomes), len(items), describe(items[position]))
    except BrokenProcessPool as error:
        raise HeartsegError(
            "a worker process was killed, most likely because memory ran out; free memory, or use "
            "fewer processes (parallel.jobs), and run the command again"
        ) from error
    return [outcomes[position] for position in range(len(items))]


def _attempt(
    work: Callable[[Item], Result], position: int, item: Item
) -> tuple[int, Outcome[Item, Result]]:
    try:
        return position, Outcome(item, result=work(item))
    except HeartsegError as error:
        return position, Outcome(item, problem=str(error))
