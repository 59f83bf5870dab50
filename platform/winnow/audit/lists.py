"""What judging adds to the ranked lists that pools are made from, and which passages are a fair test of a scorer.

A pool is cut on the score of the list that made it: the negatives in it are those that this list mistook for
positives. Another scorer, no better, looks far better on them. So a list is compared with the judge in two ways only:
its own full ranking against the pool in the judge's order, and scorer against scorer on passages that neither chose.

Legend: Q queries, N pairs, as in ``pairs.py``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from winnow.audit.pairs import JudgedPairs
from winnow.audit.resampling import Estimate, Measure, estimate, mean
from winnow.evaluation.measures import Qrels, answerable, measure_rankings
from winnow.pooling.merge import ListedQuery

MEASURES = ("RR@10", "nDCG@10")
DEPTH = 10
"""How deep lists are measured."""


@dataclass(frozen=True, slots=True)
class ListComparison:
    """The judged pools as rankings, beside the lists that they are made from; all by measure."""

    num_queries: int
    """Judged ``ok``, and people know a relevant passage, in the pool or not."""
    judged: Mapping[str, Estimate]
    """Of the pool in the judge's order, without passages that only people added."""
    lists: Mapping[str, Mapping[str, Estimate]]
    """Of each list as it is, by source."""
    gains: Mapping[str, Mapping[str, Estimate]]
    """The judged pool minus each list."""


def compare_with_lists(
    pairs: JudgedPairs,
    found: Mapping[str, ListedQuery],
    qrels: Qrels,
    *,
    relevant_from: int,
    samples: int,
    seed: int,
) -> ListComparison | None:
    """The comparison on the queries of ``pairs`` that ``qrels`` can measure; ``None`` without any."""
    measurable = answerable(qrels, relevant_from=relevant_from)
    known = {query_id: measurable[query_id] for query_id in pairs.query_ids if query_id in measurable}
    if not known:
        return None
    sources = list(next(iter(found.values())).lists)
    rankings = {source: {query_id: found[query_id].lists[source][:DEPTH] for query_id in known} for source in sources}
    judged = {
        query_id: _judged_ranking(pairs, span, found[query_id]) for query_id, span in pairs.spans() if query_id in known
    }
    values = {None: _values(judged, known, relevant_from)}
    values |= {source: _values(ranking, known, relevant_from) for source, ranking in rankings.items()}
    measures: dict[str, Measure] = {}
    for source, by_measure in values.items():
        for name, values_Q in by_measure.items():
            measures[f"{name} of {source}"] = mean(values_Q)
            measures[f"{name} over {source}"] = mean(values[None][name] - values_Q)
    shown = estimate(measures, num_queries=len(known), samples=samples, seed=seed)

    def by_measure(how: str, source: str | None) -> dict[str, Estimate]:
        return {name: shown[f"{name} {how} {source}"] for name in MEASURES}

    return ListComparison(
        len(known),
        judged=by_measure("of", None),
        lists={source: by_measure("of", source) for source in sources},
        gains={source: by_measure("over", source) for source in sources},
    )


def chosen_by_others(pairs: JudgedPairs, found: Mapping[str, ListedQuery], own: Collection[str]) -> NDArray[np.bool_]:
    """Which pairs lists other than ``own`` brought into the pool, each from its top without a gap.

    On them the scorer behind ``own`` has no part in the choice, and neither has the judge.
    """
    keep_N = np.zeros(len(pairs.query_N), dtype=bool)
    for query_id, span in pairs.spans():
        listed = found[query_id]
        judged = set(pairs.passage_id_N[span]) & listed.brought
        others = (ids for source, ids in listed.lists.items() if source not in own)
        chosen = {passage_id for ids in others for passage_id in takewhile(judged.__contains__, ids)}
        keep_N[span] = [passage_id in chosen for passage_id in pairs.passage_id_N[span]]
    return keep_N


def _judged_ranking(pairs: JudgedPairs, span: slice, listed: ListedQuery) -> list[str]:
    """Best first; what the judge has not told apart, in the order of the lists, and then as the pool was shuffled."""
    order = np.lexsort((pairs.position_N[span], pairs.best_rank_N[span], -pairs.score_N[span]))
    return [name for name in pairs.passage_id_N[span][order].tolist() if name in listed.brought]


def _values(rankings: Mapping[str, Sequence[str]], qrels: Qrels, relevant_from: int) -> dict[str, NDArray[np.float64]]:
    found = measure_rankings(rankings, qrels, MEASURES, relevant_from=relevant_from)
    return {name: np.array([found[name][query_id] for query_id in qrels]) for name in MEASURES}
