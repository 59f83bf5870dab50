"""Best first, the same every time: equal scores are ordered by passage id, or by position.

Legend: Q queries, N results to order, K results kept, P passages, S some of them, D dimension.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]
"""``scores_QK`` and ``positions_QK``, best first; a position of -1 says that there is no further result."""

_BLOCK = 4096
"""Passages whose vectors are held at a time."""


def tie_order(passage_ids: Sequence[str]) -> NDArray[np.int64]:
    """The place of each passage in the order of ids."""
    places = np.empty(len(passage_ids), dtype=np.int64)
    places[sorted(range(len(passage_ids)), key=passage_ids.__getitem__)] = np.arange(len(passage_ids))
    return places


def best(scores_P: NDArray[np.floating], tie_order_P: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Positions of the ``k`` highest scores (of all, if there are fewer), best first.

    >>> best(np.array([1.0, 3.0, 3.0, 2.0]), tie_order(["d", "c", "b", "a"]), k=3).tolist()
    [2, 1, 3]
    """
    k = min(k, len(scores_P))
    if k == 0:
        return np.empty(0, dtype=np.int64)
    # All that reach the k-th score, so that a tie across the cut is decided by id as well.
    reaching = np.flatnonzero(scores_P >= np.partition(scores_P, -k)[-k])
    return reaching[np.lexsort((tie_order_P[reaching], -scores_P[reaching]))][:k]


def no_results(num_queries: int, k: int = 0) -> Ranked:
    """``k`` columns in which every position is -1."""
    return np.full((num_queries, k), -np.inf, np.float32), np.full((num_queries, k), -1, np.int64)


def in_order(scores_QN: NDArray[np.float32], positions_QN: NDArray[np.int64], k: int) -> Ranked:
    """The ``k`` highest scores of each row, equal ones by position; what has position -1 comes last.

    >>> in_order(np.array([[1.0, 2.0, 9.0, 2.0]]), np.array([[0, 7, -1, 5]]), k=3)[1].tolist()
    [[5, 7, 0]]
    """
    scores_QN = np.where(positions_QN < 0, -np.inf, scores_QN).astype(np.float32, copy=False)
    order_QK = np.lexsort((positions_QN, -scores_QN, positions_QN < 0), axis=-1)[:, :k]
    return np.take_along_axis(scores_QN, order_QK, axis=1), np.take_along_axis(positions_QN, order_QK, axis=1)


def best_members(
    queries_QD: NDArray[np.float32],
    positions_S: NDArray[np.int64],
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    k: int,
) -> Ranked:
    """The ``k`` of the passages at ``positions_S`` (ascending) with the highest scores, which are all computed."""
    scores_QS = np.empty((len(queries_QD), len(positions_S)), dtype=np.float32)
    for start in range(0, len(positions_S), _BLOCK):
        rows_SD = vectors(positions_S[start : start + _BLOCK])
        for query_D, scores_S in zip(queries_QD, scores_QS, strict=True):
            scores_S[start : start + _BLOCK] = np.vecdot(rows_SD, query_D)
    # A query that is not finite has no order, but must not fail those beside it.
    scores_QS[np.isnan(scores_QS)] = -np.inf
    order_QK = np.array([best(scores_S, positions_S, k) for scores_S in scores_QS], dtype=np.int64)
    order_QK = order_QK.reshape(len(queries_QD), min(k, len(positions_S)))
    return np.take_along_axis(scores_QS, order_QK, axis=1), positions_S[order_QK]


def rescored(
    queries_QD: NDArray[np.float32],
    positions_QN: NDArray[np.int64],
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    k: int,
) -> Ranked:
    """The ``k`` best of each query's ``positions_QN`` by the products with their vectors."""
    scores_QN = np.empty(positions_QN.shape, dtype=np.float32)
    for query_D, positions_N, scores_N in zip(queries_QD, positions_QN, scores_QN, strict=True):
        # A missing result, -1, is compared as position 0, and left out by its position.
        scores_N[:] = np.vecdot(vectors(np.maximum(positions_N, 0)), query_D)
    return in_order(scores_QN, positions_QN, k)
