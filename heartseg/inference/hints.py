"""What the person at the keyboard knows of a heart: structures that the patient does not have.

A structure that is declared absent is never predicted. Its probability goes to the other classes in
proportion to theirs, in every view, before a label is chosen.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ConfigError, DataError
from heartseg.inference.views import PredictVolume
from heartseg.labels import LabelTable

CASE, ABSENT = "case", "absent"
"""The columns of a table of hints."""
NOTICED = 0.02
"""A hint is called doubtful where more than this fraction of the heart looked like the structure:
the least that a right ventricle or atrium takes of a heart that has one."""
IMPOSSIBLE = np.float32(-1e4)
"""A logit that leaves no probability, and no NaN in half precision."""


def parse_absent(text: str, table: LabelTable, *, source: str) -> tuple[str, ...]:
    """Return the structures that a text declares absent, in the order of the table.

    Args:
        text: Their keys, separated by commas, semicolons or blanks, in capital or small letters.
        table: The structures that there are.
        source: Where the text comes from, for an error.

    Raises:
        ConfigError: If a key is of no structure, or nothing would be left.
    """
    return check_absent(text.replace(",", " ").replace(";", " ").split(), table, source=source)


def check_absent(keys: Sequence[str], table: LabelTable, *, source: str) -> tuple[str, ...]:
    """Return the keys of absent structures as the table has them; see ``parse_absent``."""
    known = {structure.key.casefold(): structure.key for structure in table.foreground}
    unknown = [key for key in keys if key.casefold() not in known]
    if unknown:
        raise ConfigError(
            f"{source}: expected structures of the model ({', '.join(known.values())}), found "
            f"{', '.join(unknown)}"
        )
    wanted = {known[key.casefold()] for key in keys}
    if len(wanted) == len(known):
        raise ConfigError(f"{source}: all structures are declared absent; no heart would be left")
    return tuple(key for key in known.values() if key in wanted)


def read_hints(file: Path, table: LabelTable) -> dict[str, tuple[str, ...]]:
    """Read a table of hints: the structures that each case lacks.

    Args:
        file: CSV with the columns ``case`` and ``absent``, such as ``"RV,RA"``; other columns are
            not read.
        table: The structures that there are.

    Returns:
        The absent structures by name of the case.

    Raises:
        ConfigError: If a key is of no structure.
        DataError: If the file cannot be read, lacks a column, or names a case twice.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, restval="")
            columns, cells = list(rows.fieldnames or ()), list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from error
    if not {CASE, ABSENT} <= set(columns):
        raise DataError(
            f"{file}: expected a table with the columns {CASE} and {ABSENT}, found "
            f"{', '.join(map(repr, columns)) or 'none'}"
        )
    hints: dict[str, tuple[str, ...]] = {}
    for line, row in enumerate(cells, start=2):
        case = row[CASE].strip()
        if case in hints:
            raise DataError(f"{file}: the case {case!r} has several rows; expected one per case")
        hints[case] = parse_absent(row[ABSENT], table, source=f"{file}, line {line}")
    return hints


def absent_values(absent: Sequence[str], table: LabelTable) -> list[int]:
    """Return the label values of absent structures."""
    return [structure.value for structure in table.foreground if structure.key in absent]


class HintedNetwork:
    """A network of whole hearts that never predicts some classes, and counts where it would have.

    Attributes:
        absent: ``(num,)`` label values.
    """

    def __init__(self, predict: PredictVolume, absent: Sequence[int]) -> None:
        self._predict, self.absent = predict, list(absent)
        self._fractions: list[NDArray[np.float64]] = []

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of ``(1, P, I, R, 1)`` images, with none for the absent classes."""
        logits = self._predict(images)
        if not self.absent:
            return logits
        counts = np.bincount(logits.argmax(axis=-1).ravel(), minlength=logits.shape[-1])
        self._fractions.append(counts[self.absent] / max(1, counts[1:].sum()))
        logits = logits.copy()
        logits[..., self.absent] = IMPOSSIBLE
        return logits

    def measure_doubt(self, num_views: int) -> dict[int, float]:
        """Return which fraction of the heart was likely each absent class, by its value.

        Args:
            num_views: How many of the last views count.
        """
        last = self._fractions[-num_views:]
        means = np.mean(last, axis=0) if last else np.zeros(len(self.absent))
        return {value: float(mean) for value, mean in zip(self.absent, means, strict=True)}


def redistribute(probabilities: NDArray[np.float32], absent: Sequence[int]) -> NDArray[np.float32]:
    """Give the probability of absent classes to the others, in proportion to theirs.

    Args:
        probabilities: ``(..., K)``.
        absent: Label values.

    Returns:
        A new array; background where nothing else was possible.
    """
    left = probabilities.copy()
    left[..., list(absent)] = 0
    total = left.sum(axis=-1, keepdims=True)
    left[..., :1] += total == 0
    return left / np.where(total == 0, 1, total)


def describe_doubt(doubt: Mapping[int, float], table: LabelTable) -> Iterator[str]:
    """Yield in words which hints the scan contradicts.

    Args:
        doubt: The fraction of the heart that was likely each absent class, by its value.
        table: The structures.
    """
    for value, fraction in doubt.items():
        if fraction > NOTICED:
            key = table.structures[value].key
            yield (
                f"{key} declared absent; {fraction:.0%} of the heart was likely {key}. Check the "
                "hint: heartseg gave these voxels to other structures"
            )
