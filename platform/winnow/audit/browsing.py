"""Which queries a reader should see, and everything that is known about them, as plain JSON values."""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow.audit.judges import SecondOpinion
from winnow.audit.pairs import JudgedPairs
from winnow.seeding import derive_seed

MISSED = "missed a human positive"
DIFFERS = "differs from the other judge"
FLIPPED = "changed its mind in another order"

_TRACE_COLUMNS = [
    "query_id",
    "round",
    "window",
    "attempt",
    "passage_id",
    "reply",
    "reasoning",
    "finish_reason",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "seconds",
]


@dataclass(frozen=True)
class Known:
    """The datasets of the chosen queries, with the labels that were made of them."""

    pools: pa.Table
    judged_queries: pa.Table
    judgments: pa.Table
    traces: pa.Table
    positives: Mapping[str, frozenset[str]]
    others: Mapping[str, Mapping[str, bool]]
    """The other judge's labels by query and passage; empty without another judge."""


def disagreements(
    pairs: JudgedPairs, other: SecondOpinion | None, again: SecondOpinion | None
) -> dict[str, tuple[str, ...]]:
    """Why a query is worth a look, by query. One that gives no reason is left out."""
    marks: dict[str, list[str]] = defaultdict(list)
    _mark(marks, MISSED, pairs, pairs.is_human_N & ~pairs.is_positive_N)
    for reason, opinion in ((DIFFERS, other), (FLIPPED, again)):
        if opinion is not None:
            _mark(marks, reason, opinion.pairs, opinion.pairs.is_positive_N != opinion.is_positive_N)
    return {query_id: tuple(reasons) for query_id, reasons in marks.items()}


def choose_queries(
    statuses: Mapping[str, str], marks: Mapping[str, Sequence[str]], *, limit: int, seed: int
) -> list[str]:
    """At most ``limit`` queries: failures and disagreements in turn, then a seeded sample of the rest."""
    drawn = sorted(statuses)
    random.Random(derive_seed(seed, "audit page")).shuffle(drawn)
    failed = [query_id for query_id in drawn if statuses[query_id] != "ok"]
    disputed = [query_id for query_id in drawn if statuses[query_id] == "ok" and query_id in marks]
    rest = [query_id for query_id in drawn if statuses[query_id] == "ok" and query_id not in marks]
    in_turn = [query_id for pair in zip_longest(failed, disputed) for query_id in pair if query_id is not None]
    return [*in_turn, *rest][:limit]


def describe_queries(
    query_ids: Iterable[str], known: Known, marks: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """What the page shows of each query, in the order given."""
    pools = {row["query_id"]: row for row in known.pools.to_pylist()}
    outcomes = {row["query_id"]: row for row in known.judged_queries.to_pylist()}
    evidence, traces = _by_query(known.judgments), _by_query(known.traces.select(_TRACE_COLUMNS))
    return [
        {
            **_outcome(outcomes[query_id]),
            "query": pools[query_id]["query"],
            "answers": pools[query_id]["answers"] or [],
            "marks": list(marks.get(query_id, ())),
            "passages": _passages(pools[query_id], evidence[query_id], known),
            "traces": traces[query_id],
        }
        for query_id in query_ids
    ]


def _mark(marks: dict[str, list[str]], reason: str, pairs: JudgedPairs, is_odd_N: NDArray[np.bool_]) -> None:
    for query in np.flatnonzero(pairs.sums(is_odd_N)):
        marks[pairs.query_ids[query]].append(reason)


def _by_query(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        rows[row.pop("query_id")].append(row)
    return rows


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("query_id", "status", "detail", "attempts", "pseudo_answer", "passages_cut")
    return {name: row[name] for name in names}


def _passages(pool: Mapping[str, Any], evidence: Sequence[Mapping[str, Any]], known: Known) -> list[dict[str, Any]]:
    query_id = pool["query_id"]
    positives, others = known.positives.get(query_id), known.others.get(query_id, {})
    by_id = {row["passage_id"]: row for row in evidence}
    return [
        {
            "passage_id": passage["passage_id"],
            "title": passage["title"],
            "text": passage["text"],
            "human_label": passage["human_label"],
            "found_by": [f"{found['source']} {found['rank']}" for found in passage["found_by"]],
            "is_positive": None if positives is None else passage["passage_id"] in positives,
            "other_is_positive": others.get(passage["passage_id"]),
            **_evidence(by_id.get(passage["passage_id"])),
        }
        for passage in pool["passages"]
    ]


def _evidence(judgment: Mapping[str, Any] | None) -> dict[str, Any]:
    names = ("is_relevant", "is_useful", "utility_rank", "utility_score")
    return {name: None if judgment is None else judgment[name] for name in names}
