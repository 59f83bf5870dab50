"""Unite ranked lists into one candidate pool."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import MappingProxyType

from winnow.grades import relevant
from winnow.pooling.order import PoolOrder
from winnow.records import Candidate, CandidatePool, Finding, Passage, Query, ScoredPassage
from winnow.seeding import derive_seed

_NOBODY: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RankedList:
    """What one source found for one query, best first, and how many passages it may bring into the pool."""

    source: str
    hits: Sequence[ScoredPassage]
    max_passages: int | None = None


@dataclass(frozen=True, slots=True)
class ListedQuery:
    """What the lists found for one query, apart from what people added to its pool."""

    lists: Mapping[str, Sequence[str]]
    """Passage ids by source, best first."""
    brought: frozenset[str]
    """What the lists bring into the pool."""


def merge_ranked_lists(
    query: Query,
    ranked_lists: Sequence[RankedList],
    passages: Mapping[str, Passage],
    *,
    max_passages: int,
    seed: int,
    human_labels: Mapping[str, int] = _NOBODY,
    relevant_from: int = 1,
    add_human_positives: bool = False,
) -> CandidatePool:
    """The pool of ``query``: ranks are read across the lists until it is full, then the order is shuffled.

    Each candidate keeps where every list had it, and its human relevance where there is one. A human positive (a grade
    of ``relevant_from`` or more) that is added takes the place of the last passage that is none. The shuffle depends
    on the seed and the query id alone, so position says nothing about rank or label and equal inputs give equal pools.
    """
    chosen = best_first(ranked_lists, max_passages)
    findings = _findings(ranked_lists)
    if add_human_positives:
        best_ranks = {name: min(found.rank for found in where) for name, where in findings.items()}
        order = PoolOrder(query.query_id, best_ranks, seed)
        chosen = _with_positives(chosen, _most_relevant_first(human_labels, relevant_from, order), max_passages)
    candidates = [_candidate(passages[name], findings.get(name, ()), human_labels.get(name)) for name in chosen]
    random.Random(derive_seed(seed, "pool", query.query_id)).shuffle(candidates)
    return CandidatePool(query.query_id, query.query, tuple(candidates), query.answers)


def _most_relevant_first(grades: Mapping[str, int], relevant_from: int, order: PoolOrder) -> list[str]:
    """The human positives by grade; ``order`` decides among equal ones."""
    return sorted(relevant(grades, relevant_from), key=lambda name: (-grades[name], order.key(name)))


def _findings(ranked_lists: Sequence[RankedList]) -> dict[str, list[Finding]]:
    findings: dict[str, list[Finding]] = {}
    for ranked in ranked_lists:
        for rank, hit in enumerate(ranked.hits, start=1):
            findings.setdefault(hit.passage_id, []).append(Finding(ranked.source, rank, hit.score))
    return findings


def best_first(ranked_lists: Sequence[RankedList], max_passages: int) -> list[str]:
    """Passage ids in the order in which the lists, read in turn, bring them in."""
    chosen: dict[str, None] = {}
    brought: Counter[str] = Counter()
    for same_rank in zip_longest(*(ranked.hits for ranked in ranked_lists)):
        for ranked, hit in zip(ranked_lists, same_rank, strict=True):
            if len(chosen) == max_passages:
                return list(chosen)
            if hit is None or hit.passage_id in chosen or brought[ranked.source] == ranked.max_passages:
                continue
            chosen[hit.passage_id] = None
            brought[ranked.source] += 1
    return list(chosen)


def _with_positives(chosen: Sequence[str], positives: Sequence[str], max_passages: int) -> list[str]:
    wanted = positives[:max_passages]
    missing = [name for name in wanted if name not in chosen]
    replaceable = [name for name in chosen if name not in wanted]
    num_replaced = max(0, len(chosen) + len(missing) - max_passages)
    replaced = set(replaceable[len(replaceable) - num_replaced :])
    return [*(name for name in chosen if name not in replaced), *missing]


def _candidate(passage: Passage, found_by: Sequence[Finding], human_label: int | None) -> Candidate:
    return Candidate(passage.passage_id, passage.title, passage.text, tuple(found_by), human_label)
