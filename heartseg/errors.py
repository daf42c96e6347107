"""The errors that a user can fix; every other error is a bug and keeps its traceback."""

from collections.abc import Sequence


class HeartsegError(Exception):
    """An error that the user can fix.

    The message says what is wrong and where, what was expected and found, and what to do.
    """


class ConfigError(HeartsegError):
    """The configuration has an unknown key or an invalid value."""


class DataError(HeartsegError):
    """A file or folder is missing, broken, or not what was expected."""


class ModelError(HeartsegError):
    """A model file cannot be used, or training cannot continue."""


class MissingPackageError(HeartsegError, ImportError):
    """A function needs a package that is not installed."""


class BatchError(HeartsegError):
    """Some inputs of a batch failed; all others are done.

    Attributes:
        problems: One message per failed input, with its file.
    """

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        super().__init__(summary)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([str(self.args[0]), *(f"  - {problem}" for problem in self.problems)])
