"""Intervals: repeatable, honest about what is not defined."""

import numpy as np
import pytest

from winnow.audit.resampling import Estimate, estimate, estimates_of, kappa, kappa_of_counts, mean, ratio


def one(measure, *, num_queries, seed=1, samples=200):
    return estimate({"it": measure}, num_queries=num_queries, samples=samples, seed=seed)["it"]


def test_equal_seeds_give_equal_intervals_and_other_seeds_others():
    values_Q = np.arange(30.0)

    found = [one(mean(values_Q), num_queries=30, seed=seed) for seed in (1, 1, 2)]

    assert found[0] == found[1]
    assert found[0].low != found[2].low
    assert found[0].value == found[2].value == 14.5


def test_an_interval_does_not_depend_on_what_else_is_measured():
    values_Q, ones_Q = np.arange(30.0), np.ones(30)

    together = estimate({"other": ratio(ones_Q, ones_Q), "it": mean(values_Q)}, num_queries=30, samples=200, seed=1)

    assert together["it"] == one(mean(values_Q), num_queries=30)


def test_queries_without_a_value_are_left_out_and_not_counted():
    found = one(mean(np.array([1.0, np.nan, 0.5])), num_queries=3)

    assert (found.value, found.num_queries) == (0.75, 2)


def test_a_ratio_pools_its_sums():
    found = one(ratio(np.array([1.0, 3.0]), np.array([1.0, 9.0]), num_pairs=10), num_queries=2)

    assert (found.value, found.num_pairs) == (0.4, 10)
    assert found.low == pytest.approx(1 / 3)
    assert found.high == 1.0


def test_a_measure_of_nothing_has_no_value():
    assert one(ratio(np.zeros(2), np.zeros(2)), num_queries=2) == Estimate(None, None, None, 0)
    assert one(mean(np.array([])), num_queries=0) == Estimate(None, None, None, 0)


def test_one_query_has_a_value_and_no_interval():
    assert one(mean(np.array([0.5])), num_queries=1) == Estimate(0.5, None, None, 1)


def test_no_measures_are_no_estimates():
    assert estimate({}, num_queries=3, samples=10, seed=1) == {}
    assert estimates_of([], num_queries=3, samples=10, seed=1) == ()


def test_kappa_of_a_worked_example():
    """20 both yes, 15 both no of 50: agreement .7, by chance .5, kappa .4."""
    assert kappa_of_counts(np.array([20.0, 5.0, 10.0, 15.0])) == pytest.approx(0.4)


def test_kappa_is_not_defined_where_both_say_yes_to_everything():
    yes_N = np.array([True, True, True])

    assert one(kappa(yes_N, yes_N, np.array([0, 0, 1]), 2), num_queries=2).value is None


def test_kappa_counts_queries_and_pairs():
    first_N, second_N = np.array([True, False, True, False]), np.array([True, False, False, False])

    found = one(kappa(first_N, second_N, np.array([0, 0, 1, 1]), 2), num_queries=2)

    assert (found.value, found.num_queries, found.num_pairs) == (0.5, 2, 4)
