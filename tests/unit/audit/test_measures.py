"""Worked examples of agreement within queries; the general case is held against scikit-learn elsewhere."""

import numpy as np
import pytest

from winnow.audit.measures import (
    auc_of_queries,
    first_is_positive,
    ranks_within,
    sibling_auc_of_queries,
    spearman_of_queries,
)


def test_ties_count_half_in_an_auc():
    """The positive at 2 beats 1, ties with 2, loses to 3: 1.5 of 3 pairs."""
    found_Q, num_pairs = auc_of_queries(
        np.zeros(4, dtype=int), np.array([True, False, False, False]), np.array([2.0, 1.0, 2.0, 3.0]), 1
    )

    assert (found_Q.tolist(), num_pairs) == ([0.5], 3)


def test_what_was_not_ranked_comes_last():
    scores_N = np.array([-1.0, -np.inf, -np.inf])

    found_Q, _ = auc_of_queries(np.zeros(3, dtype=int), np.array([True, True, False]), scores_N, 1)

    assert found_Q.tolist() == [0.75]


def test_a_pool_of_positives_has_no_auc():
    found_Q, num_pairs = auc_of_queries(np.zeros(2, dtype=int), np.array([True, True]), np.array([1.0, 2.0]), 1)

    assert np.isnan(found_Q[0])
    assert num_pairs == 0


def test_siblings_are_of_the_same_query_and_document():
    """Query 0: the positive of document 5 over its sibling, under a stranger. Query 1: document 5 has no positive."""
    query_N, document_N = np.array([0, 0, 0, 1, 1]), np.array([5, 5, 6, 5, -1])
    is_positive_N, scores_N = np.array([True, False, False, False, True]), np.array([2.0, 1.0, 9.0, 0.0, 0.0])

    found_Q, num_pairs = sibling_auc_of_queries(query_N, document_N, is_positive_N, scores_N, 2)

    assert found_Q[0] == 1.0
    assert np.isnan(found_Q[1])
    assert num_pairs == 1


def test_passages_without_a_document_are_no_siblings_of_each_other():
    query_N, nowhere_N = np.zeros(2, dtype=int), np.array([-1, -1])

    found_Q, num_pairs = sibling_auc_of_queries(query_N, nowhere_N, np.array([True, False]), np.ones(2), 1)

    assert np.isnan(found_Q[0])
    assert num_pairs == 0


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([3.0, 1.0, 2.0], 1.0), ([1.0, 3.0, 2.0], 0.0), ([3.0, 3.0, 1.0], 0.5), ([-np.inf, -np.inf, -np.inf], 0.0)],
    ids=["right", "wrong", "tied", "nothing ranked"],
)
def test_first_passage_right(scores, expected):
    found_Q = first_is_positive(np.zeros(3, dtype=int), np.array([True, False, False]), np.array(scores), 1)

    assert found_Q.tolist() == [expected]


def test_spearman_of_equal_and_of_opposite_orders():
    query_N = np.array([0, 0, 0, 1, 1, 1])

    found_Q = spearman_of_queries(query_N, np.array([1.0, 2, 3, 1, 2, 3]), np.array([5.0, 6, 70, 9, 8, 7]), 2)

    assert found_Q.tolist() == [1.0, -1.0]


def test_no_pairs_have_no_ranks():
    assert ranks_within(np.array([], dtype=int), np.array([])).tolist() == []
