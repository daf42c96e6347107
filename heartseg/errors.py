"""The errors that a user can mend; everything else is a bug and keeps its traceback."""

from collections.abc import Sequence


class HeartsegError(Exception):
    """What the user can mend. The message says what was expected, found, where, and what to do."""


class ConfigError(HeartsegError):
    """The configuration names an unknown key, or gives a value that does not fit."""


class DataError(HeartsegError):
    """A file or folder is missing, broken, or not what was expected."""


class ModelError(HeartsegError):
    """A model file cannot be used, or training cannot go on."""


class MissingPackageError(HeartsegError, ImportError):
    """A function needs a package that is not installed."""


class BatchError(HeartsegError):
    """Some inputs of a batch failed; all the others are done.

    Attributes:
        problems: One message a failed input, each naming its file.
    """

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        super().__init__(summary)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([str(self.args[0]), *(f"  - {problem}" for problem in self.problems)])
