"""Equal texts under several ids: found, and one passage to whatever asks."""

import pyarrow as pa
import pytest

from winnow.corpora.copies import Copies, find_copies, text_hash
from winnow.corpora.store import read_copies, read_passages, write_passages
from winnow.records import Passage, ScoredPassage


@pytest.mark.parametrize(
    ("first", "second", "are_equal"),
    [
        (("A mammal.", "Otter"), ("A mammal.", "Otter"), True),
        (("A  mammal.\n", "Otter"), ("A\tmammal.", " Otter"), True),
        # What models read is one string.
        (("A mammal.", "Otter"), ("Otter A mammal.", ""), True),
        # One letter or a letter and its accent.
        (("caf\u00e9", ""), ("cafe\u0301", ""), True),
        (("A mammal.", "Otter"), ("A mammal.", "Beaver"), False),
        (("A mammal.", ""), ("a mammal.", ""), False),
        (("A mammal.", ""), ("A mammal", ""), False),
        (("ab c", ""), ("a bc", ""), False),
    ],
)
def test_texts_are_equal_as_models_read_them(first, second, are_equal):
    hashes = [text_hash(Passage(name, text, title)) for name, (text, title) in zip("ab", (first, second), strict=True)]

    assert (hashes[0] == hashes[1]) == are_equal


def test_the_first_in_the_corpus_stands_for_the_others():
    table = pa.table({"passage_id": list("zabcyd"), "text_hash": list("122313")})
    in_blocks = pa.concat_tables([table.slice(0, 2), table.slice(2)])

    for corpus in (table, in_blocks):
        assert find_copies(corpus).first_of == {"b": "a", "y": "z", "d": "c"}
    assert find_copies(table.slice(0, 0)).first_of == {}


def test_a_stored_corpus_keeps_all_passages_and_knows_its_copies(tmp_path):
    passages = [Passage("p1", "one", document_id="d1"), Passage("p2", "two"), Passage("p3", " one ", document_id="d2")]

    write_passages(tmp_path, passages)

    assert read_passages(tmp_path) == passages
    assert read_copies(tmp_path).first_of == {"p3": "p1"}


def test_a_list_has_each_text_once_where_it_had_it_first():
    hits = [ScoredPassage(name, score) for name, score in (("b", 4.0), ("c", 3.0), ("a", 2.0), ("d", 1.0))]

    found = Copies({"b": "a", "d": "c"}).distinct(hits)

    assert found == [ScoredPassage("a", 4.0), ScoredPassage("c", 3.0)]


def test_a_label_of_a_copy_is_one_of_the_passage_that_stands_for_it_and_the_best_of_several_counts():
    copies = Copies({"b": "a", "d": "a", "y": "x"})

    assert copies.grades({"b": 0, "a": 2, "d": 1, "y": 0, "z": -1}) == {"a": 2, "x": 0, "z": -1}
    assert copies.grades({"b": -1, "d": -2}) == {"a": -1}
    assert copies.rows_without(["a", "b", "x", "y", "z", "d"]) == [0, 2, 4]
