"""Choose a threshold on the judge's scores that agrees best with people."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from winnow.errors import DataError
from winnow.labels.pools import PooledQuery
from winnow.records import Judgment
from winnow.seeding import derive_seed


@dataclass(frozen=True)
class Calibration:
    """A threshold, and how well "at least this score" agrees with people, all pairs taken together."""

    threshold: float
    f1: float
    precision: float
    recall: float
    num_queries: int | None = None
    """Queries that the pairs are of, where that is known."""


def calibrate(scores: Sequence[float], is_human_positive: Sequence[bool]) -> Calibration:
    """The score with the best F1 as threshold; of several the highest, as judges call too much positive.

    At least one pair has to be a human positive.

    >>> calibrate([0.9, 0.8, 0.1], [True, True, False]).threshold
    0.8
    """
    order_N = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    scores_N = np.asarray(scores, dtype=np.float64)[order_N]
    right_N = np.cumsum(np.asarray(is_human_positive, dtype=np.int64)[order_N])
    assert any(is_human_positive), "a threshold needs a human positive"
    # Equal scores lie on one side of a threshold, so only the last of them can be the cut.
    cuts = np.flatnonzero(np.append(scores_N[1:] != scores_N[:-1], True))
    # F1 = 2 right / (positives by score + human positives)
    f1_C = 2 * right_N[cuts] / (cuts + 1 + right_N[-1])
    chosen = int(np.argmax(f1_C))
    cut = cuts[chosen]
    return Calibration(
        threshold=float(scores_N[cut]),
        f1=float(f1_C[chosen]),
        precision=float(right_N[cut] / (cut + 1)),
        recall=float(right_N[cut] / right_N[-1]),
    )


def draw_queries(
    pools: Iterable[PooledQuery], count: int, *, relevant_from: int, seed: int
) -> dict[str, frozenset[str]]:
    """At most ``count`` queries whose pools hold a human positive, with these. The same for any order of ``pools``."""
    judged = ((pool.query_id, positives) for pool in pools if (positives := pool.human_positives(relevant_from)))
    draws = ((derive_seed(seed, "calibration", query_id), query_id, positives) for query_id, positives in judged)
    return {query_id: positives for _, query_id, positives in heapq.nsmallest(count, draws, key=lambda draw: draw[:2])}


def calibrate_on(
    queries: Mapping[str, frozenset[str]], judgments_of: Callable[[str], Sequence[Judgment]]
) -> Calibration:
    """The threshold from the scored passages of ``queries``, which come with their human positives.

    Raises ``DataError`` if no scored passage is a human positive.
    """
    pairs = [
        (judgment.utility_score, judgment.passage_id in positives)
        for query_id, positives in queries.items()
        for judgment in judgments_of(query_id)
        if judgment.utility_score is not None
    ]
    if not any(is_positive for _, is_positive in pairs):
        raise DataError(
            "label.min_score: calibrated needs queries that were judged `ok`, with a score, and with a human positive "
            "in the pool; there is none: name `data.train.qrels` and set `pool.add_human_positives: true`, or give "
            "label.min_score a number"
        )
    scores, is_positive = zip(*pairs, strict=True)
    return replace(calibrate(scores, is_positive), num_queries=len(queries))
