"""What the person at the keyboard knows of a heart: structures that the patient does not have.

A structure that is declared absent is never predicted. In every view, before a label is chosen, the
probability of a ventricle or atrium goes to the other one, since the only one that a heart has is
what looks like either; that of a vessel goes to all other classes, in proportion to theirs.
"""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ConfigError, DataError
from heartseg.inference.views import PredictVolume
from heartseg.labels import LabelTable

CASE, ABSENT, DIAGNOSIS = "case", "absent", "diagnosis"
"""The columns of a table of hints."""
IMPLIED = {"single ventricle": ("RV",), "common atrium": ("RA",)}
"""What a diagnosis says of absent structures, in HVSMR-2.0: all 5 hearts with a single ventricle
have one ventricle, labelled LV, and all 10 with a common atrium one atrium, labelled LA; of the 51
and 46 others in the clinical table none lacks the structure."""
SILENT = {
    "normal",
    "mild moderate dilation",
    "severe dilation",
    "vsd",
    "asd",
    "dorv",
    "d loop tga",
    "l loop tga",
    "arterial switch",
    "atrial switch",
    "rastelli",
    "bilateral svc",
    "tortuous vessels",
    "dextrocardia",
    "mesocardia",
    "inverted ventricles",
    "inverted atria",
    "left central ivc",
    "left central svc",
    "dilv",
    "didorv",
    "glenn",
    "fontan",
    "heterotaxy",
    "superoinferior ventricles",
    "pa atresia or mpa stump",
    "pa banding",
    "aopa anastamosis",
    "marfan",
}
"""Diagnoses that say nothing certain: of 24 hearts with a Glenn shunt 4 have no RV and 7 no RA, of
9 with a Fontan circulation 2 and 2, of 13 with heterotaxy 2 and 9, of 9 with two SVC 3 and 3."""
logger = logging.getLogger(__name__)

OTHER_ONE = {"LV": "RV", "RV": "LV", "LA": "RA", "RA": "LA"}
Absent: TypeAlias = Mapping[int, int | None]
"""Label values that never occur, and which takes the place of each; None: all others do."""
NONE_ABSENT: Absent = MappingProxyType({})
NOTICED = 0.02
"""A hint is called doubtful where more than this fraction of the heart looked like the structure:
the least that a right ventricle or atrium takes of a heart that has one."""
IMPOSSIBLE = np.float32(-1e4)
"""A logit that leaves no probability, and no NaN in half precision."""


def check_absent(keys: Sequence[str], table: LabelTable, *, source: str) -> tuple[str, ...]:
    """Return the keys of absent structures in the order of the table.

    Args:
        keys: Their keys in capital or small letters.
        table: The structures that there are.
        source: Where the keys come from, for an error.

    Raises:
        ConfigError: If a key is of no structure, or nothing would be left.
    """
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
        file: CSV with the columns ``case`` and ``absent``, such as ``"RV,RA"``, or ``diagnosis``,
            or both; other columns are not read.
        table: The structures that there are.

    Returns:
        The absent structures by name of the case.

    Raises:
        ConfigError: If a key is of no structure.
        DataError: If the file cannot be read, lacks a column, names a case twice, or names none
            beside its hints.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, restval="")
            columns, lines = list(rows.fieldnames or ()), [(rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from error
    if CASE not in columns or not {ABSENT, DIAGNOSIS} & set(columns):
        raise DataError(
            f"{file}: expected a table with the columns {CASE} and {ABSENT} or {DIAGNOSIS}, found "
            f"{', '.join(map(repr, columns)) or 'none'}"
        )
    hints: dict[str, tuple[str, ...]] = {}
    for line, row in lines:
        case = row[CASE].strip()
        absent, terms = (_split(row.get(column) or "") for column in (ABSENT, DIAGNOSIS))
        if not (case or absent or terms):
            # Spreadsheets end tables with rows of empty cells.
            continue
        if not case:
            raise DataError(f"{file}, line {line}: expected the name of a case, found none")
        if case in hints:
            raise DataError(f"{file}: the case {case!r} has several rows; expected one per case")
        keys = [key for part in absent for key in part.split()]
        hints[case] = find_absent(keys, terms, table, source=f"{file}, line {line}")
    return hints


def _split(cell: str) -> list[str]:
    return [part.strip() for part in cell.replace(";", ",").split(",") if part.strip()]


def find_absent(
    absent: Sequence[str], diagnoses: Sequence[str], table: LabelTable, *, source: str
) -> tuple[str, ...]:
    """Return the structures that hints and diagnoses together declare absent.

    Args:
        absent: Keys of structures.
        diagnoses: Terms of HVSMR-2.0, with or without blanks and capital letters.
        table: The structures that there are.
        source: Where both come from, for an error.

    Raises:
        ConfigError: If a key is of no structure, or a term is not known.
    """
    plain = {_plain(term): keys for term, keys in IMPLIED.items()}
    silent = {_plain(term) for term in SILENT}
    keys = list(absent)
    for term in diagnoses:
        implied = plain.get(_plain(term))
        if implied is None and _plain(term) not in silent:
            raise ConfigError(
                f"{source}: the diagnosis {term!r} is not known; {', '.join(IMPLIED)} say which "
                "structure is absent, other diagnoses of HVSMR-2.0 are accepted and say nothing. "
                "Name absent structures with --absent"
            )
        if implied is None:
            logger.info(
                "%s: the diagnosis %s does not say which structures are absent", source, term
            )
        keys += implied or ()
    return check_absent(keys, table, source=source)


def _plain(term: str) -> str:
    return "".join(letter for letter in term.casefold() if letter.isalnum())


def absent_values(absent: Sequence[str], table: LabelTable) -> dict[int, int | None]:
    """Return the label values of absent structures, and which takes the place of each.

    Args:
        absent: Keys of structures.
        table: The structures that there are.
    """
    values = {s.key: s.value for s in table.foreground}
    present = {key: value for key, value in values.items() if key not in absent}
    return {values[key]: present.get(OTHER_ONE.get(key, "")) for key in values if key in absent}


class HintedNetwork:
    """A network of whole hearts that never predicts some classes, and counts where it would have.

    Attributes:
        absent: The label values, and which takes the place of each.
    """

    def __init__(self, predict: PredictVolume, absent: Absent) -> None:
        self._predict, self.absent = predict, absent
        self._fractions: list[NDArray[np.float64]] = []

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits of ``(1, P, I, R, 1)`` images, with none for the absent classes."""
        logits = self._predict(images)
        if not self.absent:
            return logits
        counts = np.bincount(logits.argmax(axis=-1).ravel(), minlength=logits.shape[-1])
        self._fractions.append(counts[list(self.absent)] / max(1, counts[1:].sum()))
        logits = logits.copy()
        for value, heir in self.absent.items():
            if heir is not None:
                logits[..., heir] = np.logaddexp(logits[..., heir], logits[..., value])
        logits[..., list(self.absent)] = IMPOSSIBLE
        return logits

    def measure_doubt(self, calls: slice) -> dict[int, float]:
        """Return which fraction of the heart was likely each absent class, by its value.

        Args:
            calls: Which calls of the network count.
        """
        counted = self._fractions[calls]
        means = np.mean(counted, axis=0) if counted else np.zeros(len(self.absent))
        return {value: float(mean) for value, mean in zip(self.absent, means, strict=True)}


def redistribute(probabilities: NDArray[np.float32], absent: Absent) -> NDArray[np.float32]:
    """Give the probability of absent classes to those that take their place.

    Args:
        probabilities: ``(..., K)``.
        absent: Label values, and which takes the place of each; None: all others do, in proportion
            to their probabilities.

    Returns:
        A new array; background where nothing else was possible.
    """
    left = probabilities.copy()
    for value, heir in absent.items():
        if heir is not None:
            left[..., heir] += left[..., value]
    left[..., list(absent)] = 0
    total = left.sum(axis=-1, keepdims=True)
    left[..., :1] += total == 0
    return np.asarray(left / np.where(total == 0, 1, total), np.float32)


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
