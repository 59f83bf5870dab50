"""Candidate pools as labelling sees them."""

import pyarrow as pa

from winnow.labels.pools import PooledPassage, PooledQuery, pooled_queries


def test_a_passage_has_its_best_rank_of_all_lists_and_none_if_only_people_found_it():
    def passage(name, *ranks, label=None):
        return {"passage_id": name, "found_by": [{"rank": rank} for rank in ranks], "human_label": label}

    rows = [
        {"query_id": "q1", "query": "?", "passages": [passage("a", 7, 2, 9), passage("b", label=1)]},
        {"query_id": "q2", "query": "!", "passages": [passage("a", 1, label=0)]},
    ]

    first, second = pooled_queries([pa.RecordBatch.from_pylist([row]) for row in rows])

    assert first == PooledQuery("q1", "?", {"a": PooledPassage(2), "b": PooledPassage(None, 1)})
    assert first.best_ranks == {"a": 2, "b": None}
    assert (first.human_positives(1), second.human_positives(1)) == ({"b"}, set())
