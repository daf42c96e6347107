import logging
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartseg.cohort.partition import Partition, check_disjoint, draw_folds, draw_partition
from heartseg.errors import DataError


def sizes(partition):
    return tuple(len(part) for part in partition.parts().values())


def draw(count, **changes):
    settings = {"train_fraction": 0.8, "valid_fraction": 0.15, "seed": 137, **changes}
    return draw_partition([f"n{i}" for i in range(count)], **settings)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (8329, (6663, 1249, 417)),  # the published split
        (60, (48, 9, 3)),
        (20, (16, 3, 1)),
        (10, (8, 1, 1)),
        (5, (3, 1, 1)),
        (3, (1, 1, 1)),
        (2, (1, 0, 1)),
    ],
)
def test_parts_have_the_published_sizes(count, expected):
    assert sizes(draw(count)) == expected


def test_fewer_than_two_names_are_refused():
    with pytest.raises(DataError, match="needs at least 2 cases, found 1"):
        draw(1)


@given(
    count=st.integers(2, 60), train=st.floats(0, 1), rest=st.floats(0, 1), seed=st.integers(0, 99)
)
@settings(deadline=None, max_examples=150, derandomize=True)
def test_every_name_is_in_exactly_one_part(count, train, rest, seed):
    names = [f"n{i}" for i in range(count)]
    valid = (1 - train) * rest
    partition = draw_partition(names, train_fraction=train, valid_fraction=valid, seed=seed)
    assert sorted(sum(partition.parts().values(), ())) == sorted(names)
    assert partition.train
    for part in partition.parts().values():
        assert list(part) == sorted(part, key=names.index)


def test_the_split_depends_on_the_seed_alone():
    assert draw(50) == draw(50)
    assert draw(50) != draw(50, seed=138)


def test_categories_are_spread_evenly():
    names = [f"n{i}" for i in range(60)]
    strata = {name: "severe" if i % 3 == 0 else "mild" for i, name in enumerate(names)}
    partition = draw_partition(names, train_fraction=0.6, valid_fraction=0.2, seed=1, strata=strata)
    for part in partition.parts().values():
        counts = Counter(strata[name] for name in part)
        assert counts["mild"] == 2 * counts["severe"]


def test_names_without_a_category_count_to_the_largest():
    names = [f"n{i}" for i in range(12)]
    strata = {f"n{i}": "a" if i < 5 else "b" for i in range(8)}
    partition = draw_partition(
        names, train_fraction=0.5, valid_fraction=0.25, seed=1, strata=strata
    )
    assert sizes(partition) == (6, 3, 3)


def test_a_category_that_is_too_small_is_ignored_with_a_warning(caplog):
    names = [f"n{i}" for i in range(6)]
    with caplog.at_level(logging.WARNING):
        partition = draw_partition(
            names,
            train_fraction=0.5,
            valid_fraction=0.2,
            seed=1,
            strata={**dict.fromkeys(names, "a"), "n0": "b"},
        )
    assert not partition.stratified
    assert "the split is not stratified: a category has too few cases" in caplog.text


def test_folds_ignore_categories_that_are_smaller_than_their_number(caplog):
    names = [f"n{i}" for i in range(6)]
    strata = {**dict.fromkeys(names, "a"), "n0": "b", "n1": "b"}
    with caplog.at_level(logging.WARNING):
        partitions = draw_folds(names, folds=3, valid_fraction=0, seed=1, strata=strata)
    assert "the folds are not stratified: a category has fewer cases" in caplog.text
    plain = draw_folds(names, folds=3, valid_fraction=0, seed=1)
    assert [p.test for p in partitions] == [p.test for p in plain]
    assert not any(p.stratified for p in partitions)


@pytest.mark.parametrize("folds", [2, 3, 5, 11])
@pytest.mark.parametrize("stratified", [False, True])
def test_each_name_is_tested_exactly_once(folds, stratified):
    names = [f"n{i}" for i in range(11)]
    strata = {name: "ab"[i % 2] for i, name in enumerate(names)} if stratified else None
    partitions = draw_folds(names, folds=folds, valid_fraction=0.15, seed=3, strata=strata)
    assert len(partitions) == folds
    assert sorted(name for p in partitions for name in p.test) == sorted(names)
    for partition in partitions:
        assert sorted(sum(partition.parts().values(), ())) == sorted(names)
        assert partition.train
        assert partition.valid


def test_each_fold_needs_a_name():
    with pytest.raises(DataError, match="4 folds need at least 4 cases, found 3"):
        draw_folds(["a", "b", "c"], folds=4, valid_fraction=0.1, seed=0)
    assert [sizes(p) for p in draw_folds(["a", "b"], folds=2, valid_fraction=0.5, seed=0)] == [
        (1, 0, 1),
        (1, 0, 1),
    ]


def test_a_case_in_two_parts_is_refused():
    with pytest.raises(DataError, match=r"expected each case in one part, found in several: b$"):
        check_disjoint(Partition(("a", "b"), ("b",), ("c",)), hashes={})


def test_the_same_label_map_under_two_names_is_refused():
    partition = Partition(("a", "b"), (), ("c", "d"))
    with pytest.raises(DataError, match=r"several case names: a = d;"):
        check_disjoint(partition, hashes={"a": "1", "b": "2", "c": "3", "d": "1"})
    check_disjoint(partition, hashes={"a": "1", "b": "2", "z": "1"})
