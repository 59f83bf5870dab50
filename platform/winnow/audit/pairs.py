"""What is audited: every query-passage pair that was judged ``ok``, as columns.

Legend, for all of this room: Q queries, N pairs; pairs of one query are neighbours.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow.labels.evidence import JudgmentIndex
from winnow.records import Judgment

Evidence = Literal["score", "rank", "verdict"]
"""What a judge says of a passage: a score, a place in an order, or yes and no."""

PositivesOf = Callable[[Sequence[Judgment]], Set[str]]
"""The positives among one query's judgments, by the run's label policy."""

PAIR_COLUMNS = [
    "query_id",
    "passages.list.element.passage_id",
    "passages.list.element.text",
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
    """Place in the pool, from 1."""
    num_words_N: NDArray[np.int64]
    is_positive_N: NDArray[np.bool_]
    """By the judge and the label policy."""
    is_human_N: NDArray[np.bool_]
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

    def spans(self) -> Iterator[tuple[str, slice]]:
        """Every query with the slice of its pairs."""
        ends = np.cumsum(np.bincount(self.query_N, minlength=self.num_queries)).tolist()
        yield from zip(self.query_ids, map(slice, [0, *ends], ends), strict=True)


def evidence_of(held: Set[str]) -> Evidence:
    """The kind that orders passages best, where the judgments hold the columns ``held``."""
    if "utility_rank" in held:
        return "rank"
    return "score" if "utility_score" in held else "verdict"


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


def collect_pairs(
    pools: Iterable[pa.RecordBatch], judged: Collection[str], judgments: JudgmentIndex, positives_of: PositivesOf
) -> JudgedPairs:
    """The pairs of the pools whose queries are in ``judged``. ``pools`` hold ``PAIR_COLUMNS``, a batch at a time."""
    evidence = evidence_of(judgments.held)
    query_ids: list[str] = []
    pairs: list[tuple[Any, ...]] = []
    for row in (row for batch in pools for row in batch.to_pylist()):
        if row["query_id"] in judged:
            found = judgments.of(row["query_id"])
            by_id = {judgment.passage_id: judgment for judgment in found}
            pairs += _pairs(len(query_ids), row["passages"], by_id, positives_of(found), evidence)
            query_ids.append(row["query_id"])
    columns = [list(column) for column in zip(*pairs, strict=True)] or [[] for _ in range(7)]
    types = (np.int64, np.object_, np.int64, np.int64, np.bool_, np.bool_, np.float64)
    return JudgedPairs(tuple(query_ids), *(np.array(c, dtype=t) for c, t in zip(columns, types, strict=True)))


def _pairs(
    query: int,
    passages: Sequence[Mapping[str, Any]],
    judgments: Mapping[str, Judgment],
    positives: Set[str],
    evidence: Evidence,
) -> Iterator[tuple[Any, ...]]:
    for position, passage in enumerate(passages, start=1):
        passage_id = passage["passage_id"]
        yield (
            query,
            passage_id,
            position,
            len(passage["text"].split()),
            passage_id in positives,
            (passage["human_label"] or 0) > 0,
            score_of(judgments.get(passage_id), evidence),
        )
