"""How long tasks report their progress, whatever displays it."""

from collections.abc import Callable
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int, str], None]
"""Called with the number of units done, their total number, and the name of the last one."""


def silent(done: int, total: int, what: str) -> None:
    """Ignore the progress; this is the default."""
