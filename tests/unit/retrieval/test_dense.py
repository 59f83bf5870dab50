"""Exact dense search and the order of results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.errors import DataError
from winnow.retrieval.dense import ExactSearch
from winnow.retrieval.ranking import best, tie_order


@given(scores=st.lists(st.integers(-3, 3), max_size=12), k=st.integers(1, 15))
def test_best_equals_sorting_everything(scores, k):
    ids = [f"p{(7 * position) % 12:02d}" for position in range(len(scores))]

    found = best(np.array(scores, dtype=float), tie_order(ids), k).tolist()

    everything = sorted(range(len(scores)), key=lambda position: (-scores[position], ids[position]))
    assert found == everything[:k]


def test_each_query_gets_its_nearest_passages():
    passages = np.eye(3, dtype=np.float32)
    queries = np.array([[0.1, 0.9, 0.2], [1, 0, 0.5]], dtype=np.float32)

    found = ExactSearch(["a", "b", "c"], passages).search(queries, k=2)

    assert [[hit.passage_id for hit in hits] for hits in found] == [["b", "c"], ["a", "c"]]
    assert found[0][0].score == pytest.approx(0.9)


def test_more_queries_than_fit_in_a_block_are_all_answered():
    queries = np.eye(150, dtype=np.float32)

    found = ExactSearch([f"{row:03d}" for row in range(150)], queries).search(queries, k=1)

    assert [hits[0].passage_id for hits in found] == [f"{row:03d}" for row in range(150)]


def test_vectors_of_another_dimension_are_refused():
    with pytest.raises(DataError, match="queries have 3 dimensions and passages 2"):
        ExactSearch(["a"], np.ones((1, 2), np.float32)).search(np.ones((1, 3), np.float32), k=1)
