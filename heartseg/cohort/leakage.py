"""Whether test patients were trained on: by name, and by content under another name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heartseg.files import natural_key

MAX_NAMED = 5
"""How many leaked cases a warning names."""

SLICE_SPLIT = (
    "LEAKAGE: the data set was split by slice, not by patient. Neighbours of test slices were "
    "trained on; every score here is too good to be true for a new patient."
)


@dataclass(frozen=True)
class PartContents:
    """What one part of a split holds.

    Attributes:
        cases: Names of its cases.
        case_hashes: Hash of each case's label map, as far as known.
        slice_hashes: Hash of each slice by its name, as far as known.
    """

    cases: Sequence[str]
    case_hashes: Mapping[str, str] = field(default_factory=dict)
    slice_hashes: Mapping[str, str] = field(default_factory=dict)


def find_leaks(known: PartContents, test: PartContents, *, part: str = "training") -> list[str]:
    """Look for what is tested in a part that the model has seen.

    Args:
        known: What the model has seen.
        test: What is scored.
        part: What to call ``known`` in a warning.

    Returns:
        One warning for shared names, one for label maps and one for slices that are the same
        under other names.
    """
    warnings = []
    shared = sorted(set(known.cases) & set(test.cases), key=natural_key)
    if shared:
        warnings.append(
            f"LEAKAGE: {len(shared)} of {len(test.cases)} test cases are in the {part} part too: "
            f"{_some(shared)}."
        )
    same_maps = _same_content(known.case_hashes, test.case_hashes)
    if same_maps:
        warnings.append(
            f"LEAKAGE: {len(same_maps)} test cases have the label map of a case of the {part} "
            f"part under another name: {_some(same_maps)}."
        )
    same_slices = _same_content(known.slice_hashes, test.slice_hashes)
    if same_slices:
        warnings.append(
            f"LEAKAGE: {len(same_slices)} test slices are the same picture as a slice of the "
            f"{part} part: {_some(same_slices)}."
        )
    return warnings


def find_duplicates(hashes: Mapping[str, str]) -> list[str]:
    """Return one warning for each label map that several cases share."""
    names: dict[str, list[str]] = {}
    for case in sorted(hashes, key=natural_key):
        names.setdefault(hashes[case], []).append(case)
    return [
        f"The cases {', '.join(same)} have the same label map: one patient counts several times."
        for same in names.values()
        if len(same) > 1
    ]


def _same_content(known: Mapping[str, str], test: Mapping[str, str]) -> list[str]:
    by_hash = {digest: name for name, digest in known.items()}
    return [
        f"{name} = {by_hash[digest]}"
        for name, digest in sorted(test.items(), key=lambda entry: natural_key(entry[0]))
        if digest in by_hash and by_hash[digest] != name
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
