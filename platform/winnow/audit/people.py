"""A judge against people: do its labels agree with the human ones, and does it order a pool as they would?

A passage without a human label counts as wrong when the judge calls it positive. Human labels are sparse, so precision
and kappa are floors; recall and the AUCs suffer less. Beside them stands the agreement on judged pairs alone, where
people have rejected passages as well.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.audit.measures import auc_of_queries, first_is_positive, sibling_auc_of_queries
from winnow.audit.pairs import Evidence, JudgedPairs
from winnow.audit.resampling import Estimate, Measure, estimate, kappa, mean, ratio

_KINDS = ("first_right", "auc", "sibling_auc")


@dataclass(frozen=True, slots=True)
class Order:
    """How well a scorer orders passages, or how much better the judge does so than another scorer."""

    auc: Estimate
    """Of the human positives against the rest of the pool, per query."""
    first_right: Estimate | None = None
    """The best-scored passage is a human positive. ``None`` for a judge that only says yes or no."""
    sibling_auc: Estimate | None = None
    """Of the human positives against the other passages of their own documents: the same topic, no label.
    The figure that tells utility from relevance."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The judge and another scorer, on the passages that lists other than the scorer's own brought into the pools."""

    judge: Order
    other: Order
    gain: Order
    """The judge minus the other."""


@dataclass(frozen=True)
class Baseline:
    """What another scorer says of each pair, and on which of them it may be compared."""

    score_N: NDArray[np.float64]
    is_fair_N: NDArray[np.bool_]
    """Pairs that it had no part in choosing (``lists.chosen_by_others``): a pool that is cut on a score is unfair to
    that score, as its negatives are those that the score mistook for positives."""


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
    order: Order
    """The judge's, over whole pools."""
    beside: Mapping[str, Beside | None]
    """By scorer: the judge and it. ``None`` where no other list brought a human positive and another passage."""
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
    baselines: Mapping[str, Baseline],
    document_N: NDArray[np.int64],
    samples: int,
    seed: int,
) -> HumanAgreement:
    """The agreement on ``pairs``, every query of which has a human positive. ``document_N`` is -1 where unknown.

    ``baselines`` are what others say of the same pairs.
    """
    values = _order_values(pairs, pairs.score_N, document_N)
    absent = _why_no_siblings(document_N, values["sibling_auc"])
    left_out = {*(["sibling_auc"] if absent else []), *(["first_right"] if evidence == "verdict" else [])}
    found = estimate(
        {**_label_measures(pairs), **_order_measures(values)}, num_queries=pairs.num_queries, samples=samples, seed=seed
    )
    labels = {name: found[name] for name in ("precision", "recall", "positives_per_query", "human_per_query", "kappa")}
    return HumanAgreement(
        pairs.num_queries,
        len(pairs.query_N),
        **labels,
        judged_alone=_on_judged_alone(pairs, samples=samples, seed=seed),
        order=_order(found, without=left_out),
        beside={
            name: _beside(pairs, baseline, document_N, without=left_out, samples=samples, seed=seed)
            for name, baseline in baselines.items()
        },
        siblings_absent=absent,
    )


def _beside(
    pairs: JudgedPairs,
    baseline: Baseline,
    document_N: NDArray[np.int64],
    *,
    without: Set[str],
    samples: int,
    seed: int,
) -> Beside | None:
    fair, keep_N = pairs.only(baseline.is_fair_N), baseline.is_fair_N
    judge = _order_values(fair, fair.score_N, document_N[keep_N])
    other = _order_values(fair, baseline.score_N[keep_N], document_N[keep_N])
    gain = {kind: _Values(judge[kind].values_Q - other[kind].values_Q, judge[kind].num_pairs) for kind in judge}
    if np.isnan(gain["auc"].values_Q).all():
        return None
    if not judge["sibling_auc"].num_pairs:
        without = {*without, "sibling_auc"}
    measures = {
        f"{whose}: {kind}": measure
        for whose, values in {"judge": judge, "other": other, "gain": gain}.items()
        for kind, measure in _order_measures(values).items()
    }
    found = estimate(measures, num_queries=fair.num_queries, samples=samples, seed=seed)
    return Beside(*(_order(found, whose=f"{whose}: ", without=without) for whose in ("judge", "other", "gain")))


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


def _order_measures(values: Mapping[str, _Values]) -> dict[str, Measure]:
    return {kind: mean(found.values_Q, num_pairs=found.num_pairs) for kind, found in values.items()}


def _order(found: Mapping[str, Estimate], *, without: Set[str], whose: str = "") -> Order:
    return Order(**{kind: found[f"{whose}{kind}"] for kind in _KINDS if kind not in without})


def _why_no_siblings(document_N: NDArray[np.int64], judge: _Values) -> str | None:
    if not (document_N >= 0).any():
        return "the passages of the corpus have no document_id, so nobody knows which of them are siblings"
    if not judge.num_pairs:
        return "no pool holds another passage from the document of a human positive"
    return None
