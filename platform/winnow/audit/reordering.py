"""The same pools once more with their passages in another order: what a judge changes its mind about."""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from winnow.audit.judges import SecondOpinion
from winnow.audit.pairs import JudgedPairs, position_of
from winnow.audit.resampling import Estimate, estimate, kappa
from winnow.labels.evidence import JudgmentIndex
from winnow.records import CandidatePool
from winnow.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class Flips:
    """What became of the passages that stood at one position, when they were judged again elsewhere."""

    position: int
    num_pairs: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class Reordering:
    """Two readings of the same pools by the same judge, the passages in another order."""

    num_asked: int
    num_queries: int
    """Judged ``ok`` both times."""
    num_pairs: int
    kappa: Estimate
    flips: tuple[Flips, ...]
    """By position in the first reading."""
    towards_front: int
    """Flips by which a passage became positive further in front, or ceased to be so further back."""
    towards_back: int
    """The other way round. With no bias the two are about equal."""


def draw_queries(pairs: JudgedPairs, count: int, *, seed: int) -> list[str]:
    """At most ``count`` queries whose pools have an order, drawn anew for each seed."""
    sizes = np.bincount(pairs.query_N, minlength=pairs.num_queries)
    able = sorted(query_id for query_id, size in zip(pairs.query_ids, sizes, strict=True) if size > 1)
    return random.Random(derive_seed(seed, "judged again")).sample(able, min(count, len(able)))


def in_another_order(pool: CandidatePool, *, seed: int) -> CandidatePool:
    """``pool`` with its passages in a drawn order that is not its own. It needs two passages or more."""
    draw = random.Random(derive_seed(seed, "another order", pool.query_id))
    passages = list(pool.passages)
    while tuple(passages) == pool.passages:
        draw.shuffle(passages)
    return replace(pool, passages=tuple(passages))


def positions_in(pools: Collection[CandidatePool], judgments: JudgmentIndex, pairs: JudgedPairs) -> NDArray[np.int64]:
    """Where each of ``pairs`` stood when ``pools`` were judged, from 1; as in ``JudgedPairs``."""
    places: dict[tuple[str, str], int] = {}
    for pool in pools:
        by_id = {judgment.passage_id: judgment for judgment in judgments.of(pool.query_id)}
        for place, passage in enumerate(pool.passages, start=1):
            places[pool.query_id, passage.passage_id] = position_of(by_id.get(passage.passage_id), place)
    owners_N = [pairs.query_ids[query] for query in pairs.query_N]
    return np.array([places[key] for key in zip(owners_N, pairs.passage_id_N, strict=True)], dtype=np.int64)


def compare_readings(
    again: SecondOpinion, position_again_N: NDArray[np.int64], *, num_asked: int, samples: int, seed: int
) -> Reordering:
    """Flips between the first reading and ``again``, where the same pairs stood at ``position_again_N``."""
    pairs, first_N, second_N = again.pairs, again.pairs.is_positive_N, again.is_positive_N
    gained_N, lost_N = second_N & ~first_N, first_N & ~second_N
    forward_N, back_N = position_again_N < pairs.position_N, position_again_N > pairs.position_N
    readings = {"kappa": kappa(first_N, second_N, pairs.query_N, pairs.num_queries)}
    found = estimate(readings, num_queries=pairs.num_queries, samples=samples, seed=seed)
    num_places = int(pairs.position_N.max(initial=0))
    counts = (np.bincount(pairs.position_N - 1, weights=w, minlength=num_places) for w in (None, gained_N, lost_N))
    flips = tuple(Flips(n, *map(int, row)) for n, row in enumerate(zip(*counts, strict=True), start=1))
    return Reordering(
        num_asked=num_asked,
        num_queries=pairs.num_queries,
        num_pairs=len(first_N),
        kappa=found["kappa"],
        flips=flips,
        towards_front=int((gained_N & forward_N | lost_N & back_N).sum()),
        towards_back=int((gained_N & back_N | lost_N & forward_N).sum()),
    )
