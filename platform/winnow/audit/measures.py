"""Agreement of orders within a query: AUC, Spearman's rho, the first passage. All queries at once.

Legend: Q queries, N pairs, G groups of pairs. What is not defined for a query is NaN.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


def ranks_within(group_N: Ints, values_N: Floats) -> Floats:
    """Rank of each value in its group, the smallest 1; equal values share the mean of their ranks.

    >>> ranks_within(np.array([0, 0, 0, 1]), np.array([5.0, 1.0, 5.0, 9.0])).tolist()
    [2.5, 1.0, 2.5, 1.0]
    """
    order_N = np.lexsort((values_N, group_N))
    group_N, values_N, place_N = group_N[order_N], values_N[order_N], np.arange(len(order_N))
    starts_group_N, starts_tie_N = np.ones((2, len(order_N)), dtype=bool)
    starts_group_N[1:] = group_N[1:] != group_N[:-1]
    starts_tie_N[1:] = starts_group_N[1:] | (values_N[1:] != values_N[:-1])
    tie_N = np.cumsum(starts_tie_N) - 1
    mean_place = np.bincount(tie_N, weights=place_N) / np.maximum(np.bincount(tie_N), 1)
    first_place_N = np.maximum.accumulate(np.where(starts_group_N, place_N, 0))
    ranks_N = np.empty(len(order_N))
    ranks_N[order_N] = mean_place[tie_N] - first_place_N + 1
    return ranks_N


def ordered_pairs(group_N: Ints, is_positive_N: Flags, scores_N: Floats, num_groups: int) -> tuple[Floats, Floats]:
    """Per group: pairs of a positive and another passage that the scores put in order (ties count half), and all."""

    def total(values_N: Floats) -> Floats:
        return np.bincount(group_N, weights=values_N, minlength=num_groups)

    positives_G = total(is_positive_N)
    rank_sum_G = total(np.where(is_positive_N, ranks_within(group_N, scores_N), 0.0))
    in_order_G = rank_sum_G - positives_G * (positives_G + 1) / 2
    return in_order_G, positives_G * (total(np.ones(len(group_N))) - positives_G)


def auc_of_queries(query_N: Ints, is_positive_N: Flags, scores_N: Floats, num_queries: int) -> tuple[Floats, int]:
    """AUC of each query's positives against its other passages, and how many pairs of passages that compares."""
    in_order_Q, pairs_Q = ordered_pairs(query_N, is_positive_N, scores_N, num_queries)
    return _share(in_order_Q, pairs_Q), int(pairs_Q.sum())


def sibling_auc_of_queries(
    query_N: Ints, document_N: Ints, is_positive_N: Flags, scores_N: Floats, num_queries: int
) -> tuple[Floats, int]:
    """AUC of each query's positives against the other passages of their own documents. Document -1 is no document."""
    known_N = document_N >= 0
    keys = np.stack([query_N[known_N], document_N[known_N]], axis=1)
    groups, group_N = np.unique(keys, axis=0, return_inverse=True)
    in_order_G, pairs_G = ordered_pairs(group_N.reshape(-1), is_positive_N[known_N], scores_N[known_N], len(groups))
    in_order_Q = np.bincount(groups[:, 0], weights=in_order_G, minlength=num_queries)
    pairs_Q = np.bincount(groups[:, 0], weights=pairs_G, minlength=num_queries)
    return _share(in_order_Q, pairs_Q), int(pairs_Q.sum())


def first_is_positive(query_N: Ints, is_positive_N: Flags, scores_N: Floats, num_queries: int) -> Floats:
    """Share of positives among each query's best-scored passages (one, unless tied); 0 where nothing was ranked."""
    best_Q = np.full(num_queries, -np.inf)
    np.maximum.at(best_Q, query_N, scores_N)
    is_first_N = (scores_N == best_Q[query_N]) & np.isfinite(scores_N)
    num_first_Q = np.bincount(query_N, weights=is_first_N, minlength=num_queries)
    num_right_Q = np.bincount(query_N, weights=is_first_N & is_positive_N, minlength=num_queries)
    return num_right_Q / np.maximum(num_first_Q, 1)


def spearman_of_queries(query_N: Ints, first_N: Floats, second_N: Floats, num_queries: int) -> Floats:
    """Spearman's rho of each query's pairs, ties by mean rank; NaN where one of the two is all equal."""
    size_Q = np.bincount(query_N, minlength=num_queries)

    def centred(values_N: Floats) -> Floats:
        return ranks_within(query_N, values_N) - (size_Q[query_N] + 1) / 2

    def product(left_N: Floats, right_N: Floats) -> Floats:
        return np.bincount(query_N, weights=left_N * right_N, minlength=num_queries)

    first_N, second_N = centred(first_N), centred(second_N)
    return _share(product(first_N, second_N), np.sqrt(product(first_N, first_N) * product(second_N, second_N)))


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
