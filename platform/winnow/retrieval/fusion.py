"""One ranked list from two: BM25's and the encoder's. Reciprocal rank fusion: Cormack et al., SIGIR 2009.

A ranked list is a pair ``scores_K, positions_K``, best first. Legend: K results of a list, U of both together,
P passages.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from winnow.records import ScoredPassage
from winnow.retrieval.config import FusionConfig
from winnow.retrieval.ranking import best

RankedList = tuple[NDArray[np.floating], NDArray[np.int64]]


def fuse(
    dense: RankedList, lexical: RankedList, *, config: FusionConfig, tie_order_P: NDArray[np.integer], k: int
) -> RankedList:
    """The ``k`` best of both lists, best first; equal points are ordered by passage id."""
    weights = (config.dense_weight, 1 - config.dense_weight)
    points = [
        weight * _points(scores_K, config) for weight, (scores_K, _) in zip(weights, (dense, lexical), strict=True)
    ]
    positions_U, points_U = unite([dense[1], lexical[1]], points)
    order = best(points_U, tie_order_P[positions_U], k)
    return points_U[order], positions_U[order]


def fuse_hits(
    dense: Sequence[ScoredPassage], lexical: Sequence[ScoredPassage], *, config: FusionConfig, k: int
) -> list[ScoredPassage]:
    """As ``fuse``, for two lists of passages."""
    passages = {hit.passage_id: hit for hit in (*lexical, *dense)}
    ids = sorted(passages)
    place = {passage_id: position for position, passage_id in enumerate(ids)}
    ranked = [
        (np.array([hit.score for hit in hits]), np.array([place[hit.passage_id] for hit in hits], dtype=np.int64))
        for hits in (dense, lexical)
    ]
    points, positions = fuse(*ranked, config=config, tie_order_P=np.arange(len(ids)), k=k)
    return [
        replace(passages[ids[position]], score=float(point)) for point, position in zip(points, positions, strict=True)
    ]


def reciprocal_ranks(count: int, *, constant: int) -> NDArray[np.float64]:
    """1 / (constant + rank) for the ranks 1 to ``count``.

    >>> reciprocal_ranks(3, constant=1).round(2).tolist()
    [0.5, 0.33, 0.25]
    """
    return 1 / (constant + np.arange(1, count + 1, dtype=np.float64))


def scale_scores(scores_K: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scores moved to 0 (the lowest of this list) .. 1 (the highest); equal scores are all 1.

    >>> scale_scores(np.array([8.0, 5.0, 4.0])).tolist(), scale_scores(np.array([3.0, 3.0])).tolist()
    ([1.0, 0.25, 0.0], [1.0, 1.0])
    """
    scores_K = scores_K.astype(np.float64)
    if len(scores_K) == 0 or scores_K[0] == scores_K[-1]:
        return np.ones(len(scores_K))
    return (scores_K - scores_K[-1]) / (scores_K[0] - scores_K[-1])


def unite(
    positions: Sequence[NDArray[np.int64]], points: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """``positions_U``, each once, and the sums of their points; a list that lacks a passage adds nothing to it.

    >>> [values.tolist() for values in unite([np.array([7, 3]), np.array([7])], [np.array([1.0, 0.5]), np.ones(1)])]
    [[3, 7], [0.5, 2.0]]
    """
    positions_U, place = np.unique(np.concatenate(positions), return_inverse=True)
    return positions_U, np.bincount(place, weights=np.concatenate(points), minlength=len(positions_U))


def _points(scores_K: NDArray[np.floating], config: FusionConfig) -> NDArray[np.float64]:
    if config.method == "reciprocal_rank":
        return reciprocal_ranks(len(scores_K), constant=config.rank_constant)
    return scale_scores(scores_K)
