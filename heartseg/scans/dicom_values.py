"""Values of a DICOM header, looked up so that a missing or broken one is no crash."""

import math
from dataclasses import dataclass
from typing import Any

from heartseg.scans.dicom_files import unreadable


def text_of(dataset: Any, keyword: str) -> str:  # noqa: ANN401 - pydicom's data set
    """Return a value as text, its parts separated by a backslash; empty if missing or broken."""
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) else _parts(value)
    return "\\".join(str(part).strip() for part in parts)


def numbers_of(
    dataset: Any,  # noqa: ANN401 - pydicom's data set
    keyword: str,
    count: int,
) -> tuple[float, ...] | None:
    """Return the ``count`` finite numbers of a value; None if missing, broken or fewer or more."""
    try:
        found = tuple(float(part) for part in _parts(value_of(dataset, keyword)))
    except unreadable():
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def value_of(dataset: Any, keyword: str) -> Any:  # noqa: ANN401 - a value of any type
    """Return a value; None if missing or broken."""
    try:
        return dataset.get(keyword)
    except unreadable():
        return None


def private_value(
    dataset: Any,  # noqa: ANN401 - pydicom's data set
    where: tuple[int, str, int],
) -> Any:  # noqa: ANN401 - a value of any type
    """Return a value of a scanner's own group; None if missing or broken."""
    group, creator, element = where
    try:
        return dataset.private_block(group, creator)[element].value
    except unreadable():
        return None


@dataclass(frozen=True)
class FrameGroups:
    """Where the values of one frame are looked up: its own groups, the shared ones, the file."""

    groups: tuple[Any, ...]
    dataset: Any

    def find(self, sequence: str) -> Any:  # noqa: ANN401 - pydicom's data set
        """Return the item of a functional group; the file itself if no group says anything."""
        for place in (*self.groups, self.dataset):
            item = value_of(place, sequence)
            if item:
                return item[0]
        return self.dataset


def _parts(value: Any) -> list[Any]:  # noqa: ANN401 - a value of any type
    if value is None:
        return []
    is_list = hasattr(value, "__iter__") and not isinstance(value, (str, bytes))
    # A person's name has parts of its own.
    return list(value) if is_list and not hasattr(value, "components") else [value]
