"""A retriever version in memory, and how it answers what waits for it.

Legend: Q queries of a request, N texts encoded together, D dimension.
"""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from winnow.api.metrics import Metrics
from winnow.api.protocol import SearchOptions
from winnow.modeling.protocol import Side, TokenEncode
from winnow.records import ScoredPassage
from winnow.retrieval.config import ListName
from winnow.retrieval.retriever import Retriever
from winnow.serving.cache import VectorCache

MOST_WORDS = 128
"""Most different words of a query that BM25 looks up: one word may be in every passage."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found for the queries of one ``Work``."""

    results: Sequence[Sequence[ScoredPassage]] = ()
    """Per query, best first."""
    words_cut: Sequence[int] = ()
    """Per query; empty if BM25 looked up every word."""
    empty_lists: Sequence[Sequence[ListName]] = ()
    """Per query of a hybrid search; empty if there was none."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ActiveVersion:
    """What a request needs of one version. A request keeps the one it began with, whatever is activated meanwhile."""

    version: str
    retriever: Retriever
    encoder: TokenEncode
    directory: Path
    vectors: VectorCache
    hybrid: Counter[str] = field(default_factory=Counter)
    """``queries`` of hybrid searches since it was loaded, and for how many of them each list was empty."""


@dataclass(slots=True, eq=False)
class Work:
    """A request on its way: texts of one side, of which those without a vector are to be encoded."""

    active: ActiveVersion
    texts: Sequence[str]
    side: Side
    options: SearchOptions | None
    """``None`` for a request that wants no more than vectors."""
    vectors: list[NDArray[np.float32] | None]
    """``vector_D`` of each text, once it is known."""
    token_ids: Sequence[Sequence[int]]
    """Of the texts without a vector, in order."""
    submitted: float = field(default_factory=time.perf_counter)

    @property
    def num_searches(self) -> int:
        """Queries that are to be searched for, with or without a vector."""
        return 0 if self.options is None else len(self.texts)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text that is to be encoded."""
        return [len(row) for row in self.token_ids]

    @property
    def vectors_QD(self) -> NDArray[np.float32]:
        """The vectors of all texts."""
        return np.stack(self.vectors)

    def take(self, vectors_ND: NDArray[np.float32]) -> None:
        """Note the vectors of ``token_ids``. Nothing is left to encode then, also if the search has to be repeated."""
        rows = iter(vectors_ND)
        self.vectors = [next(rows) if vector_D is None else vector_D for vector_D in self.vectors]
        self.token_ids = ()


def answer_together(works: Sequence[Work], metrics: Metrics) -> list[Found]:
    """What was found for each of ``works``, in order. Those of one version and side are encoded together."""
    started = time.perf_counter()
    for work in works:
        metrics.observe("winnow_stage_seconds", started - work.submitted, stage="queue")
    without_vectors = [work for work in works if work.token_ids]
    for group in _groups(without_vectors, lambda work: (work.active, work.side)):
        _encode(group, metrics)
    found: dict[int, Found] = {}
    # Equal options only: with a neighbour's larger k, HNSW would look further and two fused lists would be longer.
    for group in _groups(works, lambda work: (work.active, work.options)):
        found.update(zip(map(id, group), _search(group, metrics), strict=True))
    return [found[id(work)] for work in works]


def _groups(works: Iterable[Work], alike: Callable[[Work], Hashable]) -> Iterable[list[Work]]:
    groups: dict[Hashable, list[Work]] = {}
    for work in works:
        groups.setdefault(alike(work), []).append(work)
    return groups.values()


def _encode(works: Sequence[Work], metrics: Metrics) -> None:
    rows = [row for work in works for row in work.token_ids]
    started = time.perf_counter()
    vectors_ND = works[0].active.encoder.encode_tokens(rows, side=works[0].side)
    metrics.observe("winnow_stage_seconds", time.perf_counter() - started, stage="encode")
    metrics.observe("winnow_batch_queries", len(rows))
    metrics.observe("winnow_batch_tokens", len(rows) * max(map(len, rows)))
    start = 0
    for work in works:
        stop = start + len(work.token_ids)
        work.take(vectors_ND[start:stop])
        start = stop


def _search(works: Sequence[Work], metrics: Metrics) -> list[Found]:
    retriever, options = works[0].active.retriever, works[0].options
    if options is None:
        return [Found()] * len(works)
    started = time.perf_counter()
    queries = [text for work in works for text in work.texts]
    queries_QD = None if options.mode == "bm25" else np.stack([row for work in works for row in work.vectors])
    hits = retriever.rank(
        queries, queries_QD, options.k, mode=options.mode, filter=options.filter, most_words=MOST_WORDS
    )
    searched = time.perf_counter()
    passages = iter(retriever.fetch(hits, with_text=options.with_text))
    notes = iter(hits.words_cut_Q), iter(hits.empty_lists_Q)
    found = [
        Found([next(passages) for _ in work.texts], *(list(islice(note, len(work.texts))) for note in notes))
        for work in works
    ]
    metrics.observe("winnow_stage_seconds", searched - started, stage="search")
    metrics.observe("winnow_stage_seconds", time.perf_counter() - searched, stage="fetch")
    return found
