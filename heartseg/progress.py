"""How long work tells of its progress, without knowing who listens."""

from collections.abc import Callable
from typing import TypeAlias

Report: TypeAlias = Callable[[int, int, str], None]
"""Called with (units done, units in all, what was just done)."""


def silent(done: int, total: int, what: str) -> None:
    """Ignore progress: the default where nobody listens."""
