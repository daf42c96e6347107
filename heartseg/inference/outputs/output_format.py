"""What every output format has in common: how its files are named, and how they are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from heartseg.labels import Structure

Result = TypeVar("Result")


@dataclass(frozen=True)
class OutputFormat(Generic[Result]):
    """One output format of a segmented scan (``SegmentedScan``) or picture.

    Attributes:
        endings: How the names of the files end; the name of the case stands before. One that holds
            ``{structure}`` stands for one file per structure, named by its key.
        write: Writes the files, given in the order of ``endings``; raises DataError if it cannot.
            What is slow to import and not needed by every format is imported in there.
        needs_dicom: Whether the files refer to a DICOM series, so that the scan must be one.
    """

    endings: tuple[str, ...]
    write: Callable[[Sequence[Path], Result], None]
    needs_dicom: bool = False

    def name_files(
        self, folder: Path, case: str, structures: Sequence[Structure]
    ) -> tuple[Path, ...]:
        """Return the files of a case, in the order in which ``write`` takes them."""
        return tuple(
            folder / f"{case}{name}"
            for ending in self.endings
            for name in _expand(ending, structures)
        )


def one_file(
    ending: str, write: Callable[[Path, Result], None], *, needs_dicom: bool = False
) -> OutputFormat[Result]:
    """Describe a format of a single file, with a function that writes one."""

    def write_it(files: Sequence[Path], result: Result) -> None:
        [file] = files
        write(file, result)

    return OutputFormat((ending,), write_it, needs_dicom)


def _expand(ending: str, structures: Sequence[Structure]) -> list[str]:
    if "{structure}" not in ending:
        return [ending]
    return [ending.replace("{structure}", structure.key) for structure in structures]
