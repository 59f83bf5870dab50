"""What is audited: every query-passage pair that was judged ``ok``, as columns.

Legend, for all of this room: Q queries, N pairs; pairs of one query are neighbours.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow.grades import opinion_of
from winnow.labels.evidence import JudgmentIndex
from winnow.pooling.order import PoolOrder
from winnow.records import Judgment

Evidence = Literal["score", "rank", "verdict"]
"""What a judge says of a passage: a score, a place in an order, or yes and no."""

PositivesOf = Callable[[PoolOrder, Sequence[Judgment]], Set[str]]
"""The positives among one query's judgments, by the run's label policy; the order decides among equally good ones."""

PAIR_COLUMNS = [
    "query_id",
    "passages.list.element.passage_id",
    "passages.list.element.text",
    "passages.list.element.found_by",
    "passages.list.element.human_label",
]
"""What ``collect_pairs`` reads of ``candidate_pools``."""


@dataclass(frozen=True)
class JudgedPairs:
    """The pairs, with the judge's labels beside the human ones."""

    query_ids: tuple[str, ...]
    query_N: NDArray[np.int64]
    """Which of ``query_ids``."""
    passage_id_N: NDArray[np.object_]
    position_N: NDArray[np.int64]
    """Place in the prompt that the judge first saw it in, from 1: in the pool, unless that took several windows."""
    num_words_N: NDArray[np.int64]
    is_positive_N: NDArray[np.bool_]
    """By the judge and the label policy."""
    is_human_N: NDArray[np.bool_]
    """People called it relevant."""
    is_decided_N: NDArray[np.bool_]
    """People said that it is relevant, or that it is not."""
    best_rank_N: NDArray[np.float64]
    """In the lists of the pool; infinite for what only people found."""
    score_N: NDArray[np.float64]
    """The judge's, higher is better; ``-inf`` for what it did not rank."""

    @property
    def num_queries(self) -> int:
        return len(self.query_ids)

    def sums(self, values_N: NDArray[Any]) -> NDArray[np.float64]:
        """``values_N`` added up by query."""
        return np.bincount(self.query_N, weights=values_N, minlength=self.num_queries)

    def only(self, keep_N: NDArray[np.bool_]) -> Self:
        """Some of the pairs, and the queries that have one of them."""
        queries, query_N = np.unique(self.query_N[keep_N], return_inverse=True)
        columns = {field.name: getattr(self, field.name)[keep_N] for field in fields(self) if field.name[-2:] == "_N"}
        query_ids = tuple(self.query_ids[query] for query in queries)
        return type(self)(query_ids=query_ids, **{**columns, "query_N": query_N})

    def positives(self, query_ids: Iterable[str]) -> dict[str, frozenset[str]]:
        """The judge's positives of some queries; a query that is not audited is left out."""
        wanted = set(query_ids)
        return {
            query_id: frozenset(self.passage_id_N[span][self.is_positive_N[span]])
            for query_id, span in self.spans()
            if query_id in wanted
        }

    def order(self, query_id: str, span: slice, *, seed: int) -> PoolOrder:
        """What orders the passages of the query with these pairs where its judge does not."""
        ranks = zip(self.passage_id_N[span], self.best_rank_N[span].tolist(), strict=True)
        return PoolOrder(query_id, {name: int(rank) for name, rank in ranks if np.isfinite(rank)}, seed)

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Every query with the slice of its pairs."""
        ends = np.cumsum(np.bincount(self.query_N, minlength=self.num_queries)).tolist()
        yield from zip(self.query_ids, map(slice, [0, *ends], ends), strict=True)


def evidence_of(gives: Set[str]) -> Evidence:
    """The kind that orders passages best, of a judge that ``gives`` these columns."""
    if "utility_rank" in gives:
        return "rank"
    return "score" if "utility_score" in gives else "verdict"


def score_of(judgment: Judgment | None, evidence: Evidence) -> float:
    """One number that orders a query's passages as its judge does, so that orders can be compared.

    >>> score_of(Judgment("p1", is_relevant=True, is_useful=False), "verdict")
    1.0
    """
    if judgment is None:
        return -np.inf
    if evidence == "score":
        return -np.inf if judgment.utility_score is None else judgment.utility_score
    if evidence == "rank":
        return -np.inf if judgment.utility_rank is None else -float(judgment.utility_rank)
    return 2.0 if judgment.is_useful else 1.0 if judgment.is_relevant else 0.0


@dataclass(frozen=True)
class Reading:
    """How the labels of a judge are read."""

    evidence: Evidence
    positives_of: PositivesOf
    relevant_from: int
    """Lowest human grade of a relevant passage."""
    seed: int


def position_of(judgment: Judgment | None, place: int) -> int:
    """Where its judge saw the passage that stands at ``place`` of its pool, both from 1.

    >>> position_of(Judgment("p1", position=2), 12), position_of(Judgment("p1", utility_score=0.5), 12)
    (2, 12)
    """
    return place if judgment is None or judgment.position is None else judgment.position


def collect_pairs(
    pools: Iterable[pa.RecordBatch], judged: Collection[str], judgments: JudgmentIndex, reading: Reading
) -> JudgedPairs:
    """The pairs of the pools whose queries are in ``judged``. ``pools`` hold ``PAIR_COLUMNS``, a batch at a time."""
    query_ids: list[str] = []
    pairs: list[tuple[Any, ...]] = []
    for row in (row for batch in pools for row in batch.to_pylist()):
        if row["query_id"] in judged:
            pairs += _pairs(len(query_ids), row, judgments.of(row["query_id"]), reading)
            query_ids.append(row["query_id"])
    types = (np.int64, np.object_, np.int64, np.int64, np.bool_, np.bool_, np.bool_, np.float64, np.float64)
    columns = [list(column) for column in zip(*pairs, strict=True)] or [[] for _ in types]
    return JudgedPairs(tuple(query_ids), *(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


def _pairs(
    query: int, row: Mapping[str, Any], judgments: Sequence[Judgment], reading: Reading
) -> Iterator[tuple[Any, ...]]:
    by_id = {judgment.passage_id: judgment for judgment in judgments}
    ranks = {p["passage_id"]: min((f["rank"] for f in p["found_by"]), default=None) for p in row["passages"]}
    positives = reading.positives_of(PoolOrder(row["query_id"], ranks, reading.seed), judgments)
    for place, passage in enumerate(row["passages"], start=1):
        passage_id, grade = passage["passage_id"], passage["human_label"]
        said = None if grade is None else opinion_of(grade, reading.relevant_from)
        yield (
            query,
            passage_id,
            position_of(by_id.get(passage_id), place),
            len(passage["text"].split()),
            passage_id in positives,
            said == "positive",
            said in ("positive", "negative"),
            np.inf if ranks[passage_id] is None else ranks[passage_id],
            score_of(by_id.get(passage_id), reading.evidence),
        )
