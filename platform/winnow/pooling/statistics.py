"""What the pools hold: sizes, who found what, and how many human positives each list reaches."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from winnow.pooling.merge import RankedList
from winnow.records import CandidatePool

DEPTHS = (1, 2, 3, 5, 10, 20, 30, 50, 100)
ONLY_PEOPLE = "only people"
"""Stands for the sources of a passage that no list found. No source can be called so."""


@dataclass(frozen=True)
class PoolStatistics:
    """Counts over all pools. Recall is the mean over the questions that have a human positive."""

    num_pools: int
    num_candidates: int
    fewest: int
    most: int
    num_empty_pools: int
    found_by: Mapping[str, int]
    """Candidates by the sources that found them, such as ``bm25+dense``."""
    empty_lists: Mapping[str, int]
    """Questions that a source found nothing for, by source."""
    num_judged: int
    """Questions that have a human positive."""
    human_positives: Mapping[str, int]
    """``found``: in a pool and on a list. ``added``: in a pool by people alone. ``missing``: in no pool."""
    recall: Mapping[str, Mapping[int, float]]
    """By source and depth; empty if no question has a human positive."""
    union_recall: Mapping[int, float]
    """Of all lists together, each read to this depth or to its end."""
    pool_recall: float | None
    """Of the pools as they are judged, human positives that were added included."""

    @property
    def mean_size(self) -> float:
        """Passages per pool."""
        return self.num_candidates / self.num_pools if self.num_pools else 0.0


def statistics_to_json(statistics: PoolStatistics) -> dict[str, Any]:
    """``statistics`` as plain JSON values; inverse of ``statistics_from_json``."""
    return asdict(statistics)


def statistics_from_json(fields: Mapping[str, Any]) -> PoolStatistics:
    """The statistics that ``statistics_to_json`` wrote."""
    recall = {source: _by_depth(curve) for source, curve in fields["recall"].items()}
    return PoolStatistics(**{**fields, "recall": recall, "union_recall": _by_depth(fields["union_recall"])})


def shown_depths(depth: int) -> list[int]:
    """The depths at which a list of ``depth`` is measured, its end among them."""
    return sorted({shown for shown in DEPTHS if shown < depth} | {depth})


class PoolCounter:
    """Counts pools one at a time, so that none has to be kept. ``depths`` says how deep each source is read."""

    def __init__(self, depths: Mapping[str, int]) -> None:
        self._curves = {source: _Curve(depth) for source, depth in depths.items()}
        self._union = _Curve(max(depths.values()))
        self._sizes: Counter[int] = Counter()
        self._found_by: Counter[str] = Counter()
        self._empty = dict.fromkeys(depths, 0)
        self._positives = dict.fromkeys(("found", "added", "missing"), 0)
        self._pool_recall = 0.0
        self._num_judged = 0

    def count(self, pool: CandidatePool, ranked_lists: Sequence[RankedList], positives: Set[str]) -> None:
        """Take in one pool, the lists it was made from, and its question's human positives."""
        self._sizes[len(pool.passages)] += 1
        for passage in pool.passages:
            self._found_by["+".join(finding.source for finding in passage.found_by) or ONLY_PEOPLE] += 1
        for ranked in ranked_lists:
            self._empty[ranked.source] += not ranked.hits
        if positives:
            self._num_judged += 1
            self._count_in_pool(pool, positives)
            self._count_in_lists(ranked_lists, positives)

    def result(self) -> PoolStatistics:
        """The statistics of all pools counted so far."""
        judged = self._num_judged
        return PoolStatistics(
            num_pools=self._sizes.total(),
            num_candidates=sum(size * count for size, count in self._sizes.items()),
            fewest=min(self._sizes, default=0),
            most=max(self._sizes, default=0),
            num_empty_pools=self._sizes[0],
            found_by=dict(sorted(self._found_by.items())),
            empty_lists={source: count for source, count in self._empty.items() if count},
            num_judged=judged,
            human_positives=dict(self._positives),
            recall={source: curve.mean(judged) for source, curve in self._curves.items()} if judged else {},
            union_recall=self._union.mean(judged) if judged else {},
            pool_recall=self._pool_recall / judged if judged else None,
        )

    def _count_in_pool(self, pool: CandidatePool, positives: Set[str]) -> None:
        found_by = [passage.found_by for passage in pool.passages if passage.passage_id in positives]
        num_found = sum(map(bool, found_by))
        self._positives["found"] += num_found
        self._positives["added"] += len(found_by) - num_found
        self._positives["missing"] += len(positives) - len(found_by)
        self._pool_recall += len(found_by) / len(positives)

    def _count_in_lists(self, ranked_lists: Sequence[RankedList], positives: Set[str]) -> None:
        best: dict[str, int] = {}
        for ranked in ranked_lists:
            ranks = {hit.passage_id: rank for rank, hit in enumerate(ranked.hits, 1) if hit.passage_id in positives}
            self._curves[ranked.source].add(ranks.values(), len(positives))
            best.update({name: min(rank, best.get(name, rank)) for name, rank in ranks.items()})
        self._union.add(best.values(), len(positives))


class _Curve:
    """The sum of recalls at each depth."""

    def __init__(self, depth: int) -> None:
        self._totals = dict.fromkeys(shown_depths(depth), 0.0)

    def add(self, ranks: Collection[int], num_positives: int) -> None:
        for depth in self._totals:
            self._totals[depth] += sum(rank <= depth for rank in ranks) / num_positives

    def mean(self, num_questions: int) -> dict[int, float]:
        return {depth: total / num_questions for depth, total in self._totals.items()}


def _by_depth(curve: Mapping[Any, float]) -> dict[int, float]:
    # JSON knows keys of text only.
    return {int(depth): value for depth, value in curve.items()}
