"""A judge against people: do its labels agree with the human ones, and does it order a pool as they would?

A passage without a human label counts as wrong when the judge calls it positive. Human labels are sparse, so precision
and kappa are floors; recall and the AUCs suffer less. Beside them stands the agreement on judged pairs alone, where
people have rejected passages as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.audit.measures import auc_of_queries, first_is_positive, sibling_auc_of_queries
from winnow.audit.pairs import Evidence, JudgedPairs
from winnow.audit.resampling import Estimate, Measure, estimate, kappa, mean, ratio

JUDGE = "judge"
_KINDS = ("first_right", "auc", "sibling_auc")


@dataclass(frozen=True, slots=True)
class Order:
    """How well a scorer orders the pools, or how much better the judge does so than another scorer."""

    auc: Estimate
    """Of the human positives against the rest of the pool, per query."""
    first_right: Estimate | None = None
    """The best-scored passage is a human positive. ``None`` for a judge that only says yes or no."""
    sibling_auc: Estimate | None = None
    """Of the human positives against the other passages of their own documents: the same topic, no label.
    The figure that tells utility from relevance."""


@dataclass(frozen=True, slots=True)
class JudgedAlone:
    """Judge and people on the pairs that people have decided: relevant, or not. All others are left out."""

    num_pairs: int
    precision: Estimate
    recall: Estimate
    kappa: Estimate


@dataclass(frozen=True, slots=True)
class HumanAgreement:
    """Judge and people on the queries that were judged ``ok`` and have a human positive in the pool."""

    num_queries: int
    num_pairs: int
    precision: Estimate
    """Share of the judge's positives that are human positives, all pairs pooled, as published tables have it."""
    recall: Estimate
    """Share of the human positives that the judge calls positive, all pairs pooled."""
    positives_per_query: Estimate
    human_per_query: Estimate
    kappa: Estimate
    judged_alone: JudgedAlone | None
    """``None`` where people have rejected no passage of these pools."""
    orders: Mapping[str, Order]
    """By scorer, the judge first."""
    gains: Mapping[str, Order]
    """The judge minus each other scorer, on the queries that have both."""
    siblings_absent: str | None
    """Why there is no sibling AUC."""


@dataclass(frozen=True)
class _Values:
    """One measure of one scorer by query; NaN where it is not defined."""

    values_Q: NDArray[np.float64]
    num_pairs: int | None = None


def with_human_positive(pairs: JudgedPairs) -> JudgedPairs:
    """The pairs of the queries that people have something to say about."""
    return pairs.only((pairs.sums(pairs.is_human_N) > 0)[pairs.query_N])


def compare_with_people(
    pairs: JudgedPairs,
    *,
    evidence: Evidence,
    baselines: Mapping[str, NDArray[np.float64]],
    document_N: NDArray[np.int64],
    samples: int,
    seed: int,
) -> HumanAgreement:
    """The agreement on ``pairs``, every query of which has a human positive. ``document_N`` is -1 where unknown.

    ``baselines`` are the scores that others give to the same pairs.
    """
    scores = {JUDGE: pairs.score_N, **baselines}
    values = {name: _order_values(pairs, score_N, document_N) for name, score_N in scores.items()}
    absent = _why_no_siblings(document_N, values[JUDGE]["sibling_auc"])
    left_out = {*(["sibling_auc"] if absent else []), *(["first_right"] if evidence == "verdict" else [])}
    measures = {**_label_measures(pairs), **_order_measures(values)}
    found = estimate(measures, num_queries=pairs.num_queries, samples=samples, seed=seed)
    labels = {name: found[name] for name in ("precision", "recall", "positives_per_query", "human_per_query", "kappa")}

    def order(name: str, *, without: set[str]) -> Order:
        return Order(**{kind: found[f"{kind} of {name}"] for kind in _KINDS if kind not in without})

    orders = {name: order(name, without=left_out if name == JUDGE else left_out - {"first_right"}) for name in scores}
    gains = {name: order(f"{JUDGE} - {name}", without=left_out) for name in baselines}
    return HumanAgreement(
        pairs.num_queries,
        len(pairs.query_N),
        **labels,
        judged_alone=_on_judged_alone(pairs, samples=samples, seed=seed),
        orders=orders,
        gains=gains,
        siblings_absent=absent,
    )


def _on_judged_alone(pairs: JudgedPairs, *, samples: int, seed: int) -> JudgedAlone | None:
    decided = pairs.only(pairs.is_decided_N)
    if decided.is_human_N.all():
        return None
    found = estimate(_label_measures(decided), num_queries=decided.num_queries, samples=samples, seed=seed)
    return JudgedAlone(len(decided.query_N), *(found[name] for name in ("precision", "recall", "kappa")))


def _label_measures(pairs: JudgedPairs) -> dict[str, Measure]:
    judged_Q, human_Q = pairs.sums(pairs.is_positive_N), pairs.sums(pairs.is_human_N)
    both_Q = pairs.sums(pairs.is_positive_N & pairs.is_human_N)
    ones_Q = np.ones(pairs.num_queries)
    return {
        "precision": ratio(both_Q, judged_Q, num_pairs=int(judged_Q.sum())),
        "recall": ratio(both_Q, human_Q, num_pairs=int(human_Q.sum())),
        "positives_per_query": ratio(judged_Q, ones_Q, num_pairs=len(pairs.query_N)),
        "human_per_query": ratio(human_Q, ones_Q, num_pairs=len(pairs.query_N)),
        "kappa": kappa(pairs.is_positive_N, pairs.is_human_N, pairs.query_N, pairs.num_queries),
    }


def _order_values(
    pairs: JudgedPairs, score_N: NDArray[np.float64], document_N: NDArray[np.int64]
) -> dict[str, _Values]:
    query_N, is_human_N, num_queries = pairs.query_N, pairs.is_human_N, pairs.num_queries
    return {
        "first_right": _Values(first_is_positive(query_N, is_human_N, score_N, num_queries)),
        "auc": _Values(*auc_of_queries(query_N, is_human_N, score_N, num_queries)),
        "sibling_auc": _Values(*sibling_auc_of_queries(query_N, document_N, is_human_N, score_N, num_queries)),
    }


def _order_measures(values: Mapping[str, Mapping[str, _Values]]) -> dict[str, Measure]:
    measures = {}
    for name, by_kind in values.items():
        for kind, found in by_kind.items():
            gain_Q = values[JUDGE][kind].values_Q - found.values_Q
            measures[f"{kind} of {name}"] = mean(found.values_Q, num_pairs=found.num_pairs)
            measures[f"{kind} of {JUDGE} - {name}"] = mean(gain_Q, num_pairs=found.num_pairs)
    return measures


def _why_no_siblings(document_N: NDArray[np.int64], judge: _Values) -> str | None:
    if not (document_N >= 0).any():
        return "the passages of the corpus have no document_id, so nobody knows which of them are siblings"
    if not judge.num_pairs:
        return "no pool holds another passage from the document of a human positive"
    return None
