"""BM25: the formula on a corpus small enough to do by hand, ties, words nobody wrote."""

import math

import pytest

from winnow.errors import DataError
from winnow.records import Passage
from winnow.retrieval.bm25 import BM25

PASSAGES = [
    Passage("p3", "otter otter river"),
    Passage("p1", "otter stone"),
    Passage("p2", "stone stone bridge"),
    Passage("p0", "bridge", title="Otter"),
]


def lucene(tf, length, *, df, num_passages=4, mean_length=10 / 4):
    idf = math.log(1 + (num_passages - df + 0.5) / (df + 0.5))
    return idf * tf / (tf + 1.5 * (1 - 0.75 + 0.75 * length / mean_length))


def test_scores_follow_the_formula_of_lucene_and_titles_count():
    found = BM25.build(PASSAGES).search(["otter"], k=10)[0]

    assert [hit.passage_id for hit in found] == ["p3", "p0", "p1"]
    expected = [lucene(2, 3, df=3), lucene(1, 2, df=3), lucene(1, 2, df=3)]
    assert [hit.score for hit in found] == pytest.approx(expected, rel=1e-5)


def test_equal_scores_are_ordered_by_id_even_where_k_cuts_them():
    corpus = [Passage(name, "same words here") for name in ("c", "a", "d", "b")] + [Passage("e", "other text")]

    found = BM25.build(corpus).search(["words"], k=2)[0]

    assert [hit.passage_id for hit in found] == ["a", "b"]


def test_word_forms_match_by_their_stem():
    corpus = [Passage("a", "changing files"), Passage("b", "a river")]

    assert [hit.passage_id for hit in BM25.build(corpus).search(["changed file"], k=5)[0]] == ["a"]


@pytest.mark.parametrize("query", ["", "the of and", "zebra", "?!"])
def test_a_query_that_shares_no_word_finds_nothing(query):
    assert BM25.build(PASSAGES).search([query], k=3) == [[]]


def test_results_carry_title_and_text():
    found = BM25.build(PASSAGES).search(["otter bridge"], k=1)[0][0]

    assert (found.passage_id, found.title, found.text) == ("p0", "Otter", "bridge")


@pytest.mark.parametrize("passages", [[], [Passage("a", "the of"), Passage("b", "?")]])
def test_a_corpus_without_words_is_refused(passages):
    with pytest.raises(DataError, match="hold no word to search"):
        BM25.build(passages)
