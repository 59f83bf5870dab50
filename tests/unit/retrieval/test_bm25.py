"""BM25: the formula on a corpus small enough to do by hand, ties, words nobody wrote, and the index on disk."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import subset_of

from winnow.errors import DataError
from winnow.records import Passage
from winnow.retrieval import bm25
from winnow.retrieval.bm25 import BM25, LexicalIndex

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
    found = BM25.build(PASSAGES, "english").search(["otter"], k=10)[0]

    assert [hit.passage_id for hit in found] == ["p3", "p0", "p1"]
    expected = [lucene(2, 3, df=3), lucene(1, 2, df=3), lucene(1, 2, df=3)]
    assert [hit.score for hit in found] == pytest.approx(expected, rel=1e-5)


def test_a_word_that_is_repeated_counts_each_time():
    hits = BM25.build(PASSAGES, "english").search(["stone otter Stones stone"], k=10)[0]

    scores = {hit.passage_id: hit.score for hit in hits}
    otter, stone = lucene(1, 2, df=3), lucene(1, 2, df=2)
    assert scores["p1"] == pytest.approx(otter + 3 * stone, rel=1e-6)
    assert scores["p2"] == pytest.approx(3 * lucene(2, 3, df=2), rel=1e-6)


def test_a_query_that_repeats_one_word_takes_one_look_at_the_index():
    class Counted(np.ndarray):
        looks = 0

        def __getitem__(self, key):
            Counted.looks += isinstance(key, slice)
            return super().__getitem__(key)

    index = LexicalIndex.build(PASSAGES, "english")
    index._index.scores["data"] = index._index.scores["data"].view(Counted)

    index.rank(["otter " * 2000 + "river"], 3)

    assert Counted.looks == 2


LONG = "zebra otter stone otter river bridge otter stone"
"""Words of the index by number of passages: river 1, stone 2, bridge 2, otter 3; nobody wrote of zebras."""


@pytest.mark.parametrize(
    ("most_words", "kept", "cut"),
    [(1, "river", 3), (2, "stone stone river", 2), (3, "stone river bridge stone", 1), (4, LONG, 0), (None, LONG, 0)],
)
def test_of_a_long_query_the_rarest_words_count_as_often_as_they_are_there(most_words, kept, cut):
    index = LexicalIndex.build(PASSAGES, "english")

    assert as_lists(index.rank([LONG, "otter"], 9, most_words=most_words)) == as_lists(index.rank([kept, "otter"], 9))
    assert most_words is None or index.words_cut([LONG, "otter", ""], most_words) == [cut, 0, 0]


def test_equal_scores_are_ordered_by_id_even_where_k_cuts_them():
    corpus = [Passage(name, "same words here") for name in ("c", "a", "d", "b")] + [Passage("e", "other text")]

    found = BM25.build(corpus, "english").search(["words"], k=2)[0]

    assert [hit.passage_id for hit in found] == ["a", "b"]


def test_word_forms_match_by_their_stem():
    corpus = [Passage("a", "changing files"), Passage("b", "a river")]

    assert [hit.passage_id for hit in BM25.build(corpus, "english").search(["changed file"], k=5)[0]] == ["a"]


@pytest.mark.parametrize("query", ["", "the of and", "zebra", "?!"])
def test_a_query_that_shares_no_word_finds_nothing(query):
    assert BM25.build(PASSAGES, "english").search([query], k=3) == [[]]


def test_results_carry_title_and_text():
    found = BM25.build(PASSAGES, "english").search(["otter bridge"], k=1)[0][0]

    assert (found.passage_id, found.title, found.text) == ("p0", "Otter", "bridge")


@pytest.mark.parametrize("passages", [[], [Passage("a", "the of"), Passage("b", "?")]])
def test_a_corpus_without_words_is_refused(passages):
    with pytest.raises(DataError, match="hold no word to search"):
        BM25.build(passages, "english")


def as_lists(ranked):
    return [(scores.tolist(), positions.tolist()) for scores, positions in ranked]


@pytest.mark.parametrize("memory_map", [True, False])
def test_the_index_on_disk_ranks_as_the_one_in_memory(tmp_path, memory_map):
    queries = ["otter", "stone bridge", "otter otter", "zebra", "", "the"]
    built = LexicalIndex.build(PASSAGES, "english")
    built.save(tmp_path)

    loaded = LexicalIndex.load(tmp_path, "english", memory_map=memory_map)

    assert as_lists(loaded.rank(queries, 3)) == as_lists(built.rank(queries, 3))
    assert [positions.tolist() for _, positions in loaded.rank(queries, 3)] == [
        [0, 3, 1],
        [2, 3, 1],
        [0, 3, 1],
        [],
        [],
        [],
    ]
    assert loaded.scores("stone", [0, 2]).tolist() == built.scores("stone", [0, 2]).tolist()
    assert loaded.count == 4


def test_only_members_are_found_and_k_counts_them_alone(tmp_path):
    index = LexicalIndex.build(PASSAGES, "english")
    among = subset_of(np.array([False, True, True, True]))

    found = index.rank(["otter", "river"], 2, among=among)

    assert [positions.tolist() for _, positions in found] == [[3, 1], []]
    assert as_lists(index.rank(["otter"], 2, among=subset_of(np.zeros(4, dtype=bool)))) == [([], [])]


def test_a_corpus_read_in_blocks_ranks_as_one_read_at_once(monkeypatch):
    whole = LexicalIndex.build(PASSAGES, "english").rank(["otter bridge"], 4)

    monkeypatch.setattr(bm25, "_BLOCK", 3)

    assert as_lists(LexicalIndex.build(iter(PASSAGES), "english").rank(["otter bridge"], 4)) == as_lists(whole)


def test_files_depend_on_the_passages_alone(tmp_path):
    LexicalIndex.build(PASSAGES, "english").save(tmp_path)

    # In the order they are met: a set's order changes from process to process.
    assert json.loads((tmp_path / "vocab.index.json").read_text()) == {"otter": 0, "river": 1, "stone": 2, "bridg": 3}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".npy", ".npy", ".npy", ".npy"]


def test_threads_rank_as_one_after_the_other(tmp_path):
    LexicalIndex.build(PASSAGES, "english").save(tmp_path)
    index = LexicalIndex.load(tmp_path, "english")
    queries = ["otter", "stone", "bridge river", "otters"] * 10

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda query: as_lists(index.rank([query], 3))[0], queries))

    assert found == as_lists(index.rank(queries, 3))
