"""Unite ranked lists into one candidate pool."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from winnow.records import Candidate, CandidatePool, Finding, Passage, Query, ScoredPassage
from winnow.seeding import derive_seed


def merge_ranked_lists(
    query: Query,
    ranked_lists: Mapping[str, Sequence[ScoredPassage]],
    passages: Mapping[str, Passage],
    *,
    max_passages: int,
    seed: int,
) -> CandidatePool:
    """The pool of ``query``: ranks are read across the lists until it is full, then the order is shuffled.

    Each candidate keeps where every list had it. The shuffle depends on the seed and the query id
    alone, so position says nothing about rank and equal inputs give equal pools.
    """
    findings = _findings(ranked_lists)
    chosen = list(_best_first(ranked_lists))[:max_passages]
    candidates = [_candidate(passages[passage_id], findings[passage_id]) for passage_id in chosen]
    random.Random(derive_seed(seed, "pool", query.query_id)).shuffle(candidates)
    return CandidatePool(query.query_id, query.query, tuple(candidates))


def _findings(ranked_lists: Mapping[str, Sequence[ScoredPassage]]) -> dict[str, list[Finding]]:
    findings: dict[str, list[Finding]] = {}
    for source, ranked in ranked_lists.items():
        for rank, hit in enumerate(ranked, start=1):
            findings.setdefault(hit.passage_id, []).append(Finding(source, rank, hit.score))
    return findings


def _best_first(ranked_lists: Mapping[str, Sequence[ScoredPassage]]) -> Iterator[str]:
    seen: set[str] = set()
    for same_rank in zip_longest(*ranked_lists.values()):
        for hit in same_rank:
            if hit is not None and hit.passage_id not in seen:
                seen.add(hit.passage_id)
                yield hit.passage_id


def _candidate(passage: Passage, found_by: Sequence[Finding]) -> Candidate:
    return Candidate(passage.passage_id, passage.title, passage.text, tuple(found_by))
