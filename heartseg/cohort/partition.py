"""Which cases train, validate and test: drawn by scikit-learn, checked against leakage."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from heartseg.errors import DataError

logger = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Partition:
    """The names (of cases or of slices) in each part.

    Attributes:
        train: Names that the network learns from.
        valid: Names that stop training and choose the checkpoint.
        test: Names that nothing was fitted to.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Return the names by part."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def draw_partition(
    names: Sequence[str],
    *,
    train_fraction: float,
    valid_fraction: float,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> Partition:
    """Shuffle names into parts of ``int(fraction * N)``; the rest is the test part.

    With three names or more, no part whose fraction is above 0 stays empty.

    Args:
        names: What is divided, without duplicates.
        train_fraction: Share of the training part.
        valid_fraction: Share of the validation part.
        seed: Seed of the shuffling.
        strata: Category by name, to be spread evenly; names without one join the largest.

    Returns:
        The partition; each part keeps the order of ``names``.

    Raises:
        DataError: If there are fewer than two names.
    """
    total = len(names)
    if total < 2:
        raise DataError(f"a split needs at least 2 cases, found {total}")
    valid, test = _part_sizes(total, train_fraction, valid_fraction)
    rest, held_out = _divide(names, test, seed=seed, strata=strata)
    learned, stopped = _divide(rest, valid, seed=seed, strata=strata)
    return _in_order(names, learned, stopped, held_out)


def draw_folds(
    names: Sequence[str],
    *,
    folds: int,
    valid_fraction: float,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> list[Partition]:
    """Draw cross-validation folds: each name is in exactly one test part.

    Args:
        names: What is divided.
        folds: Number of folds, at least 2.
        valid_fraction: Share of all names that validate, taken from outside the test part.
        seed: Seed of the shuffling.
        strata: Category by name, to be spread evenly.

    Returns:
        One partition a fold.

    Raises:
        DataError: If there are fewer names than folds.
    """
    if len(names) < folds:
        raise DataError(f"{folds} folds need at least {folds} cases, found {len(names)}")
    classes = _classes(names, strata)
    stratified = classes is not None and min(Counter(classes).values()) >= folds
    if classes is not None and not stratified:
        logger.warning("a category has fewer cases than there are folds: not stratified")
    splitter = (StratifiedKFold if stratified else KFold)(
        n_splits=folds, shuffle=True, random_state=seed
    )
    partitions = []
    for rest, held_out in splitter.split(names, classes if stratified else None):
        remaining = [names[i] for i in rest]
        # Never so many that nothing is left to learn from.
        valid = min(max(1, int(valid_fraction * len(names))), len(remaining) - 1)
        learned, stopped = _divide(
            remaining, valid if valid_fraction > 0 else 0, seed=seed, strata=strata
        )
        partitions.append(_in_order(names, learned, stopped, [names[i] for i in held_out]))
    return partitions


def check_disjoint(partition: Partition, *, hashes: Mapping[str, str]) -> None:
    """Refuse a partition in which a case, or its label map, is in two places.

    Args:
        partition: Case names by part.
        hashes: Hash of each case's label map.

    Raises:
        DataError: If a case is in two parts, or two cases have the same label map.
    """
    names = [name for part in partition.parts().values() for name in part]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(f"the split puts {', '.join(twice)} into more than one part")
    by_hash: dict[str, list[str]] = {}
    for name in names:
        if name in hashes:
            by_hash.setdefault(hashes[name], []).append(name)
    same = [" = ".join(group) for group in by_hash.values() if len(group) > 1]
    if same:
        raise DataError(
            f"the same label map stands under several case names: {'; '.join(same)}; remove the "
            "copies, or a patient would be in two parts"
        )


def _part_sizes(total: int, train_fraction: float, valid_fraction: float) -> tuple[int, int]:
    """Return how many names validate and how many test."""
    # Rounded first: 0.15 * 20 is 2.9999999999999996 in floating point.
    train = int(round(train_fraction * total, 9))
    valid = int(round(valid_fraction * total, 9))
    test = total - train - valid
    if total >= 3:
        # Where a part would stay empty another gives: the test part if it can, else training.
        if valid == 0 and valid_fraction > 0:
            train, valid, test = (train, 1, test - 1) if test > 1 else (train - 1, 1, test)
        if test == 0 and train_fraction + valid_fraction < 1:
            train, test = train - 1, 1
    while train < 1:
        train += 1
        valid, test = (valid - 1, test) if valid > test else (valid, test - 1)
    return valid, test


def _divide(
    names: Sequence[str], second: int, *, seed: int, strata: Mapping[str, str] | None
) -> tuple[list[str], list[str]]:
    """Draw ``second`` of the names; return the others first."""
    if second == 0:
        return list(names), []
    classes = _classes(names, strata)
    if classes is not None:
        counts = Counter(classes)
        if min(counts.values()) < 2 or min(second, len(names) - second) < len(counts):
            logger.warning("too few cases of a category to spread them: not stratified")
            classes = None
    kept, drawn = train_test_split(
        list(names), test_size=second, random_state=seed, shuffle=True, stratify=classes
    )
    return kept, drawn


def _classes(names: Sequence[str], strata: Mapping[str, str] | None) -> list[str] | None:
    known = [strata[name] for name in names if name in strata] if strata else []
    if not strata or not known:
        return None
    largest = Counter(known).most_common(1)[0][0]
    return [strata.get(name, largest) for name in names]


def _in_order(names: Sequence[str], *parts: Sequence[str]) -> Partition:
    position = {name: index for index, name in enumerate(names)}
    train, valid, test = (tuple(sorted(part, key=position.__getitem__)) for part in parts)
    return Partition(train, valid, test)
