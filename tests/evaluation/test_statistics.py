import math

import numpy as np
import pytest
from scipy import stats

from heartseg.evaluation.statistics import (
    bootstrap_interval,
    compare_paired,
    correct_by_holm,
    rank_biserial,
    summarize,
)

NAN = float("nan")


def test_a_summary_leaves_out_patients_without_a_value():
    summary = summarize([0.9, NAN, 0.7, 0.5])

    assert (summary.n, summary.mean, summary.median) == (3, pytest.approx(0.7), 0.7)
    assert 0.5 <= summary.ci95_low < 0.7 < summary.ci95_high <= 0.9


def test_a_summary_of_nothing_is_empty():
    summary = summarize([NAN, NAN])

    assert summary.n == 0
    assert math.isnan(summary.mean)


def test_one_patient_has_no_interval():
    summary = summarize([0.8])

    assert (summary.n, summary.mean) == (1, 0.8)
    assert math.isnan(summary.ci95_low)


def test_equal_values_have_an_interval_without_width():
    assert summarize([0.8] * 5).ci95_low == pytest.approx(0.8)


def test_the_interval_repeats_with_the_seed_and_is_that_of_scipy():
    values = np.random.default_rng(1).normal(0.8, 0.1, 40)

    first = bootstrap_interval(values, num_resamples=4000, seed=7)

    assert first == bootstrap_interval(values, num_resamples=4000, seed=7)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=3
    ).confidence_interval
    np.testing.assert_allclose(first, expected, atol=0.005)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(2)
    hits = 0
    for seed in range(200):
        low, high = bootstrap_interval(generator.normal(0, 1, 40), num_resamples=400, seed=seed)
        hits += low <= 0 <= high

    # 200 draws of a 95 % interval; percentile intervals of 40 values cover a little less.
    assert 0.88 <= hits / 200 <= 0.99


def test_holm_matches_the_hand_calculation():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 = 0.06, 0.04 x 1 raised to 0.06.
    np.testing.assert_allclose(correct_by_holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])


def test_holm_ignores_tests_that_were_not_made_and_stops_at_1():
    adjusted = correct_by_holm([0.6, NAN, 0.02])

    assert adjusted[0] == 0.6
    assert math.isnan(adjusted[1])
    assert adjusted[2] == 0.04
    assert correct_by_holm([0.9, 0.8]) == [1.0, 1.0]
    assert correct_by_holm([]) == []


def test_the_effect_size_is_the_balance_of_ranks():
    # Ranks 1 (down), 2 and 3 (up); the zero is ignored.
    assert rank_biserial(np.array([-0.1, 0.2, 0.3, 0.0])) == pytest.approx((5 - 1) / 6)
    assert rank_biserial(np.array([0.1, 0.5])) == 1
    assert rank_biserial(np.zeros(3)) == 0


def test_a_comparison_uses_the_patients_that_both_runs_score():
    first = [0.5, 0.6, NAN, 0.7, 0.8, 0.4, 0.3, 0.55]
    second = [0.6, 0.8, 0.9, NAN, 0.85, 0.52, 0.34, 0.58]

    test = compare_paired(first, second)

    assert test.n == 6
    assert test.mean_difference == pytest.approx(np.mean([0.1, 0.2, 0.05, 0.12, 0.04, 0.03]))
    assert test.effect_size == 1
    # All six differences are positive: two of 2**6 sign patterns are as extreme.
    assert test.p == pytest.approx(2 / 64)
    assert test.ci95_low < test.mean_difference < test.ci95_high


def test_equal_runs_have_no_p():
    test = compare_paired([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])

    assert math.isnan(test.p)
    assert (test.mean_difference, test.effect_size) == (0, 0)


def test_runs_without_common_patients_have_no_test():
    assert compare_paired([NAN], [0.5]).n == 0


def test_runs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="as many values"):
        compare_paired([0.5], [0.5, 0.6])
