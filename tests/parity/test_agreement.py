"""The audit's measures against scikit-learn and SciPy, query by query, on data with ties."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, rankdata, spearmanr
from sklearn.metrics import cohen_kappa_score, precision_score, recall_score, roc_auc_score

from winnow.audit.biases import uneven
from winnow.audit.measures import auc_of_queries, ranks_within, sibling_auc_of_queries, spearman_of_queries
from winnow.audit.resampling import estimate, kappa, mean, ratio

NUM_QUERIES = 40


@pytest.fixture
def draws():
    return np.random.default_rng(7)


@pytest.fixture
def query_N(draws):
    """Queries with 1 to 12 pairs."""
    return np.repeat(np.arange(NUM_QUERIES), draws.integers(1, 13, size=NUM_QUERIES))


def test_ranks_equal_scipys(draws, query_N):
    values_N = draws.integers(0, 4, size=len(query_N)).astype(float)

    found_N = ranks_within(query_N, values_N)

    expected = [rankdata(values_N[query_N == query]) for query in range(NUM_QUERIES)]
    assert found_N.tolist() == np.concatenate(expected).tolist()


def test_ranks_do_not_depend_on_the_order_of_the_pairs(draws, query_N):
    values_N, shuffled_N = draws.integers(0, 4, size=len(query_N)).astype(float), draws.permutation(len(query_N))

    found_N = ranks_within(query_N[shuffled_N], values_N[shuffled_N])

    assert found_N.tolist() == ranks_within(query_N, values_N)[shuffled_N].tolist()


def test_auc_equals_scikit_learns(draws, query_N):
    scores_N = draws.integers(0, 5, size=len(query_N)).astype(float)
    is_positive_N = draws.random(len(query_N)) < 0.3

    found_Q, _ = auc_of_queries(query_N, is_positive_N, scores_N, NUM_QUERIES)

    for query in range(NUM_QUERIES):
        labels, scores = is_positive_N[query_N == query], scores_N[query_N == query]
        if labels.all() or not labels.any():
            assert np.isnan(found_Q[query])
        else:
            assert found_Q[query] == pytest.approx(roc_auc_score(labels, scores))


def test_sibling_auc_counts_pairs_of_one_document_only(draws, query_N):
    scores_N = draws.integers(0, 5, size=len(query_N)).astype(float)
    is_positive_N = draws.random(len(query_N)) < 0.4
    document_N = draws.integers(-1, 3, size=len(query_N))

    found_Q, num_pairs = sibling_auc_of_queries(query_N, document_N, is_positive_N, scores_N, NUM_QUERIES)

    total = 0
    for query in range(NUM_QUERIES):
        rows = np.flatnonzero(query_N == query)
        won = [
            (scores_N[p] > scores_N[n]) + 0.5 * (scores_N[p] == scores_N[n])
            for p in rows[is_positive_N[rows]]
            for n in rows[~is_positive_N[rows]]
            if document_N[p] == document_N[n] != -1
        ]
        total += len(won)
        assert found_Q[query] == pytest.approx(np.mean(won) if won else np.nan, nan_ok=True)
    assert num_pairs == total > 20


def test_spearman_equals_scipys(draws, query_N):
    first_N, second_N = draws.integers(0, 4, size=(2, len(query_N))).astype(float)

    found_Q = spearman_of_queries(query_N, first_N, second_N, NUM_QUERIES)

    for query in range(NUM_QUERIES):
        first, second = first_N[query_N == query], second_N[query_N == query]
        if len(set(first)) < 2 or len(set(second)) < 2:
            assert np.isnan(found_Q[query])
        else:
            assert found_Q[query] == pytest.approx(spearmanr(first, second).statistic)


def test_kappa_precision_and_recall_equal_scikit_learns_over_the_pooled_pairs(draws, query_N):
    first_N, second_N = draws.random((2, len(query_N))) < 0.35
    both_Q = np.bincount(query_N, weights=first_N & second_N)
    measures = {
        "kappa": kappa(first_N, second_N, query_N, NUM_QUERIES),
        "precision": ratio(both_Q, np.bincount(query_N, weights=first_N)),
        "recall": ratio(both_Q, np.bincount(query_N, weights=second_N)),
    }

    found = estimate(measures, num_queries=NUM_QUERIES, samples=100, seed=1)

    assert found["kappa"].value == pytest.approx(cohen_kappa_score(first_N, second_N))
    assert found["precision"].value == pytest.approx(precision_score(second_N, first_N))
    assert found["recall"].value == pytest.approx(recall_score(second_N, first_N))


def test_unevenness_of_equal_pools_is_cochrans_q(draws):
    """Friedman's test of yes and no, corrected for ties, is Cochran's Q."""
    positive_QP = (draws.random((60, 6)) < [0.5, 0.4, 0.3, 0.3, 0.2, 0.2]).astype(float)
    share_Q = positive_QP.mean(axis=1)

    statistic, degrees = uneven(positive_QP.sum(axis=0) - share_Q.sum(), np.full(60, 6), share_Q)

    expected = friedmanchisquare(*positive_QP.T)
    assert degrees == 5
    assert statistic == pytest.approx(expected.statistic)


def test_unevenness_of_unequal_pools_is_chi_square_when_chance_places_the_positives(draws):
    """Large pools have a smaller share of positives, and chance must still be called chance 95 % of the time."""
    size_Q = np.repeat([2, 5, 9], 30)
    positives_Q = np.minimum(draws.integers(1, 4, size=90), size_Q)
    share_Q = positives_Q / size_Q

    def by_chance():
        surplus_P = np.zeros(9)
        for size, count in zip(size_Q, positives_Q, strict=True):
            surplus_P[draws.permutation(size)[:count]] += 1
            surplus_P[:size] -= count / size
        return uneven(surplus_P, size_Q, share_Q)

    found = [by_chance() for _ in range(400)]

    assert {degrees for _, degrees in found} == {8}
    assert np.mean([statistic for statistic, _ in found]) == pytest.approx(8.0, abs=0.8)
    assert np.mean([statistic > 15.507 for statistic, _ in found]) == pytest.approx(0.05, abs=0.035)


def test_interval_of_a_mean_covers_the_truth_95_percent_of_the_time(draws):
    covered = 0
    for seed in range(200):
        found = estimate({"m": mean(draws.normal(3.0, 2.0, size=80))}, num_queries=80, samples=300, seed=seed)["m"]
        covered += found.low <= 3.0 <= found.high

    assert covered / 200 == pytest.approx(0.95, abs=0.05)
