"""Leakage: test patients in the training data, under the same name or under another one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from heartseg.files import natural_key

MAX_NAMED = 5
"""How many leaked cases a warning lists."""

SLICE_SPLIT = (
    "LEAKAGE: the data set was split by slice, not by patient. The training part holds neighbours "
    "of the test slices, so a new patient will score lower than every score here."
)


@dataclass(frozen=True)
class PartContents:
    """What one part of a split holds.

    Attributes:
        cases: Names of its cases.
        case_hashes: Hash of the label map by case, as far as known.
        slice_hashes: Hash of each slice by file name, as far as known.
        image_hashes: Hash of the scan by case, as far as known.
    """

    cases: Sequence[str]
    case_hashes: Mapping[str, str] = field(default_factory=dict)
    slice_hashes: Mapping[str, str] = field(default_factory=dict)
    image_hashes: Mapping[str, str] = field(default_factory=dict)


def find_leaks(
    known: PartContents,
    test: PartContents,
    *,
    part: str = "training part",
    same_data_set: bool = True,
) -> list[str]:
    """Look for test cases among the cases that a model has seen.

    Args:
        known: What the model has seen.
        test: What is scored.
        part: How a warning refers to ``known``.
        same_data_set: Whether equal names mean equal patients. If not, an equal name counts only
            if the contents cannot be compared: other data sets have a ``pat4`` too.

    Returns:
        At most one warning each for cases of the same name, and for equal label maps, scans and
        slices under other names.
    """
    shared = [
        name
        for name in sorted(set(known.cases) & set(test.cases), key=natural_key)
        if same_data_set or not _differs(name, known, test)
    ]
    warnings = []
    if shared:
        warnings.append(
            f"LEAKAGE: test cases that also occur in the {part}: {len(shared)} of "
            f"{len(test.cases)} ({_some(shared)})."
        )
    for what, ours, theirs in (
        ("test cases whose label map also occurs", known.case_hashes, test.case_hashes),
        ("test cases whose scan also occurs", known.image_hashes, test.image_hashes),
        ("test slices that also occur", known.slice_hashes, test.slice_hashes),
    ):
        same = _same_content(ours, theirs)
        if same:
            warnings.append(
                f"LEAKAGE: {what} in the {part} under another name: {len(same)} ({_some(same)})."
            )
    return warnings


def _differs(name: str, known: PartContents, test: PartContents) -> bool:
    """Return whether the contents show that two cases of one name are different patients."""
    pairs = [
        (ours[name], theirs[name])
        for ours, theirs in (
            (known.case_hashes, test.case_hashes),
            (known.image_hashes, test.image_hashes),
        )
        if name in ours and name in theirs
    ]
    return bool(pairs) and all(ours != theirs for ours, theirs in pairs)


def compare_contents(before: PartContents, now: PartContents, *, part: str) -> list[str]:
    """Say how a part differs from what it was: cases that joined, left, or have other contents.

    Args:
        before: What it was.
        now: What it is.
        part: What to call it.

    Returns:
        One sentence per difference; contents count where both are known.
    """
    joined = sorted(set(now.cases) - set(before.cases), key=natural_key)
    left = sorted(set(before.cases) - set(now.cases), key=natural_key)
    changed = [
        name
        for known, found in (
            (before.case_hashes, now.case_hashes),
            (before.image_hashes, now.image_hashes),
            (before.slice_hashes, now.slice_hashes),
        )
        for name in sorted(known.keys() & found.keys(), key=natural_key)
        if known[name] != found[name]
    ]
    sentences = (("joined", joined), ("left", left), ("changed", list(dict.fromkeys(changed))))
    return [f"{part}: {_some(names)} {what}" for what, names in sentences if names]


def find_duplicates(hashes: Mapping[str, str]) -> list[str]:
    """Return one warning per label map that several cases share."""
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
