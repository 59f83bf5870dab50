"""Judged pairs for tests, written as one line per query."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from winnow.audit.pairs import JudgedPairs

Rows = Mapping[str, str]


@pytest.fixture
def judged() -> Callable[..., JudgedPairs]:
    """Makes pairs of ``{query id: passages}``. A passage is ``J`` (the judge's positive), ``H`` (a human positive),
    ``B`` (both), ``V`` (the judge's positive, vetoed by people), ``-`` (vetoed) or ``.``; scores fall with the position
    unless given, the n-th passage has n words, and a list had it at rank n."""

    def make(rows: Rows, *, scores: Mapping[str, list[float]] | None = None) -> JudgedPairs:
        marks = [mark for passages in rows.values() for mark in passages]
        positions = [position for passages in rows.values() for position in range(1, len(passages) + 1)]
        by_default = {query_id: [-float(n) for n in range(1, len(row) + 1)] for query_id, row in rows.items()}
        found = {**by_default, **(scores or {})}
        return JudgedPairs(
            query_ids=tuple(rows),
            query_N=np.repeat(np.arange(len(rows)), [len(row) for row in rows.values()]),
            passage_id_N=np.array([f"p{position}" for position in positions], dtype=object),
            position_N=np.array(positions, dtype=np.int64),
            num_words_N=np.array(positions, dtype=np.int64),
            is_positive_N=np.array([mark in "JBV" for mark in marks], dtype=bool),
            is_human_N=np.array([mark in "HB" for mark in marks], dtype=bool),
            is_decided_N=np.array([mark in "HBV-" for mark in marks], dtype=bool),
            best_rank_N=np.array(positions, dtype=float),
            score_N=np.array([score for query_id in rows for score in found[query_id]], dtype=float),
        )

    return make
