"""Scores of BM25 and the encoder for the pairs of an audit."""

import numpy as np
import pytest

from winnow.audit.baselines import dense_scores, documents_of, lexical_scores
from winnow.records import Passage
from winnow.retrieval.bm25 import BM25

PASSAGES = [
    Passage("p3", "a heron waits by the river"),
    Passage("p1", "an otter swims in the river", document_id="animals"),
    Passage("p2", "otters and otters and an otter", document_id="animals"),
]


def test_lexical_scores_are_those_of_the_search(judged):
    pairs = judged({"q1": "...", "q2": ".."})
    queries = ["otter river", "heron"]

    found_N = lexical_scores(PASSAGES, pairs, queries, "english")

    searched = [
        {hit.passage_id: hit.score for hit in hits} for hits in BM25.build(PASSAGES, "english").search(queries, 3)
    ]
    expected = [searched[query].get(f"p{place}", 0.0) for query, place in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]]
    assert found_N.tolist() == pytest.approx(expected)
    assert found_N[3:].tolist() == [0.0, 0.0]


def test_a_query_of_unknown_words_scores_nothing(judged):
    assert lexical_scores(PASSAGES, judged({"q1": "..."}), ["zzz"], "english").tolist() == [0.0, 0.0, 0.0]


def test_dense_scores_are_dot_products(judged):
    passages_PD = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    queries_QD = np.array([[3.0, 1.0], [0.0, 1.0]], dtype=np.float32)

    found_N = dense_scores(["p2", "p1"], passages_PD, queries_QD, judged({"q1": "..", "q2": "."}))

    assert found_N.tolist() == [2.0, 3.0, 2.0]


def test_siblings_have_one_number_and_passages_without_a_document_none(judged):
    found_N = documents_of(PASSAGES, judged({"q1": "..."}))

    assert found_N[0] == found_N[1] >= 0
    assert found_N[2] == -1
