"""Which cases train, validate and test: drawn with scikit-learn, checked for leakage."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from heartseg.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Partition:
    """The names (of cases or of slices) in each part.

    Attributes:
        train: Names of what the network is fitted to.
        valid: Names of what decides when training stops and which checkpoint is kept.
        test: Names of what is kept for the final score.
        stratified: Whether the categories of the names were spread evenly over all parts.
    """

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]
    stratified: bool = False

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

    With three names or more, every part whose fraction is above 0 gets at least one name.

    Args:
        names: The names to divide, without duplicates.
        train_fraction: Fraction of the names in the training part.
        valid_fraction: Fraction of the names in the validation part.
        seed: Seed of the shuffling.
        strata: Category by name, to be spread evenly; names without one count to the largest.

    Returns:
        The partition; each part keeps the order of ``names``.

    Raises:
        DataError: If there are fewer than two names.
    """
    total = len(names)
    if total < 2:
        raise DataError(f"a split needs at least 2 cases, found {total}")
    valid, test = _part_sizes(total, train_fraction, valid_fraction)
    rest, test_names, evenly = _divide(names, test, seed=seed, strata=strata)
    train_names, valid_names, also = _divide(rest, valid, seed=seed, strata=strata)
    return _in_order(names, train_names, valid_names, test_names, stratified=evenly and also)


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
        names: The names to divide, without duplicates.
        folds: Number of folds, at least 2.
        valid_fraction: Fraction of all names in the validation part of each fold.
        seed: Seed of the shuffling.
        strata: Category by name, to be spread evenly; names without one count to the largest.

    Returns:
        One partition per fold; each part keeps the order of ``names``.

    Raises:
        DataError: If there are fewer names than folds.
    """
    if len(names) < folds:
        raise DataError(
            f"{folds} folds need at least {folds} cases, found {len(names)}; lower split.folds"
        )
    partitions = []
    for rest, test, evenly in _draw_test_parts(names, folds, seed=seed, strata=strata):
        # At least one name stays in the training part.
        valid = min(max(1, int(valid_fraction * len(names))), len(rest) - 1)
        train_names, valid_names, also = _divide(
            rest, valid if valid_fraction > 0 else 0, seed=seed, strata=strata
        )
        stratified = evenly and also
        partitions.append(_in_order(names, train_names, valid_names, test, stratified=stratified))
    return partitions


def check_disjoint(partition: Partition, *, hashes: Mapping[str, str]) -> None:
    """Refuse a partition in which a case, or its label map, occurs twice.

    Args:
        partition: The cases of each part.
        hashes: Hash of the label map by case.

    Raises:
        DataError: If a case is in two parts, or two cases have the same label map.
    """
    names = [name for part in partition.parts().values() for name in part]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"split: expected each case in one part, found in several: {', '.join(twice)}"
        )
    by_hash: dict[str, list[str]] = {}
    for name in names:
        if name in hashes:
            by_hash.setdefault(hashes[name], []).append(name)
    same = [" = ".join(group) for group in by_hash.values() if len(group) > 1]
    if same:
        raise DataError(
            "split: expected different label maps, found the same one under several case names: "
            f"{'; '.join(same)}; remove the copies, so that no patient is in two parts"
        )


def _draw_test_parts(
    names: Sequence[str], folds: int, *, seed: int, strata: Mapping[str, str] | None
) -> Iterator[tuple[list[str], list[str], bool]]:
    """Yield for each fold the names outside its test part, those in it, and if evenly drawn."""
    classes = _classes(names, strata)
    if classes is not None and min(Counter(classes).values()) < folds:
        logger.warning(
            "the folds are not stratified: a category has fewer cases than there are folds"
        )
        classes = None
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = KFold if classes is None else StratifiedKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    for rest, test in splitter.split(names, classes):
        yield [names[i] for i in rest], [names[i] for i in test], classes is not None


def _part_sizes(total: int, train_fraction: float, valid_fraction: float) -> tuple[int, int]:
    """Return the sizes of the validation part and of the test part."""
    # Rounded first, because 0.15 * 20 is 2.9999999999999996 in floating point.
    train = int(round(train_fraction * total, 9))
    valid = int(round(valid_fraction * total, 9))
    test = total - train - valid
    if total >= 3:
        # The test part gives a name to an empty validation part if it has two, else training does.
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
) -> tuple[list[str], list[str], bool]:
    """Draw ``second`` of the names; return the rest, what was drawn, and whether evenly."""
    if second == 0:
        return list(names), [], _classes(names, strata) is not None
    classes = _classes(names, strata)
    if classes is not None:
        counts = Counter(classes)
        if min(counts.values()) < 2 or min(second, len(names) - second) < len(counts):
            logger.warning("the split is not stratified: a category has too few cases")
            classes = None
    # Imported only where something is drawn: reading a partition need not wait for it.
    from sklearn.model_selection import train_test_split

    kept, drawn = train_test_split(
        list(names), test_size=second, random_state=seed, shuffle=True, stratify=classes
    )
    return kept, drawn, classes is not None


def _classes(names: Sequence[str], strata: Mapping[str, str] | None) -> list[str] | None:
    known = [strata[name] for name in names if name in strata] if strata else []
    if not strata or not known:
        return None
    largest = Counter(known).most_common(1)[0][0]
    return [strata.get(name, largest) for name in names]


def _in_order(names: Sequence[str], *parts: Sequence[str], stratified: bool) -> Partition:
    position = {name: index for index, name in enumerate(names)}
    train, valid, test = (tuple(sorted(part, key=position.__getitem__)) for part in parts)
    return Partition(train, valid, test, stratified)
