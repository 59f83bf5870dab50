"""What is written can be read back, unchanged."""

import json

from winnow.corpora.store import (
    Split,
    corpus_hash,
    read_passages,
    read_split,
    write_passages,
    write_quarantine,
    write_split,
)
from winnow.records import Passage, Query, RejectedRow

PASSAGES = [
    Passage("p1", "text", "title", "doc", {"year": "1999"}),
    Passage("p2", "ünïcödé\nlines"),
]


def test_passages_come_back_in_order_and_whole(tmp_path):
    write_passages(tmp_path, PASSAGES)

    assert read_passages(tmp_path) == PASSAGES


def test_a_changed_text_changes_the_hash_of_the_corpus(tmp_path):
    write_passages(tmp_path, PASSAGES, corpus="one")
    write_passages(tmp_path, PASSAGES, corpus="same")
    write_passages(tmp_path, [PASSAGES[0], Passage("p2", "other")], corpus="other")

    assert corpus_hash(tmp_path, "one") == corpus_hash(tmp_path, "same") != corpus_hash(tmp_path, "other")


def test_a_split_comes_back_with_its_labels(tmp_path):
    split = Split("dev", "corpus", (Query("q1", "why?", ("because",)), Query("q2", "how?")), {"q1": {"p1": 1, "p2": 2}})

    write_split(tmp_path, split)

    assert read_split(tmp_path, "dev") == split


def test_quarantine_keeps_the_row_and_the_reason(tmp_path):
    row = RejectedRow("corpus.jsonl", 7, "empty_text", "passage 'p' has no text", '{"_id": "p"}')

    path = write_quarantine(tmp_path / "quarantine.jsonl", [row])

    assert json.loads(path.read_text()) == {
        "path": "corpus.jsonl",
        "line": 7,
        "reason": "empty_text",
        "detail": "passage 'p' has no text",
        "raw": '{"_id": "p"}',
    }
