"""Candidate pools as labelling needs them: who is in them, not what they say."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from winnow.grades import relevant

POOL_COLUMNS = [
    "query_id",
    "query",
    "passages.list.element.passage_id",
    "passages.list.element.found_by",
    "passages.list.element.human_label",
]
"""What ``pooled_queries`` reads of ``candidate_pools``."""


@dataclass(frozen=True, slots=True)
class PooledPassage:
    """What was known of a passage before it was judged."""

    best_rank: int | None = None
    """In the list that had it highest; ``None`` if only people found it."""
    human_label: int | None = None


@dataclass(frozen=True, slots=True)
class PooledQuery:
    """A query with the passages of its pool, by id."""

    query_id: str
    query: str
    passages: Mapping[str, PooledPassage]

    @property
    def best_ranks(self) -> dict[str, int | None]:
        """Where the lists had each passage highest."""
        return {name: passage.best_rank for name, passage in self.passages.items()}

    def human_positives(self, relevant_from: int) -> frozenset[str]:
        """The passages of the pool that people called relevant."""
        grades = {name: p.human_label for name, p in self.passages.items() if p.human_label is not None}
        return frozenset(relevant(grades, relevant_from))


def pooled_queries(batches: Iterable[pa.RecordBatch]) -> Iterator[PooledQuery]:
    """The rows of ``batches``, which hold ``POOL_COLUMNS``, one at a time."""
    for batch in batches:
        for row in batch.to_pylist():
            passages = {passage["passage_id"]: _passage(passage) for passage in row["passages"]}
            yield PooledQuery(row["query_id"], row["query"], passages)


def _passage(row: Mapping[str, Any]) -> PooledPassage:
    return PooledPassage(min((found["rank"] for found in row["found_by"]), default=None), row["human_label"])
