"""Reading files from outside: every bad row is named, counted and survived."""

from collections import Counter

import pytest

from winnow.corpora.beir import read_corpus, read_qrels, read_queries
from winnow.errors import DataError

GOOD = b'{"_id": "p1", "title": "T", "text": "some text"}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"_id": "p2", "text": ', "malformed_json"),
        (b"[" * 100_000, "malformed_json"),
        (b'["p2", "text"]', "not_an_object"),
        (b'{"_id": "p2"}', "missing_field"),
        (b'{"text": "no id"}', "missing_field"),
        (b'{"_id": null, "text": "x"}', "missing_field"),
        (b'{"_id": true, "text": "x"}', "wrong_type"),
        (b'{"_id": "p2", "text": 7}', "wrong_type"),
        (b'{"_id": "p2", "text": "x", "metadata": {"year": 1999}}', "wrong_type"),
        (b'{"_id": " ", "text": "x"}', "empty_id"),
        (b'{"_id": "p2", "text": " \\n "}', "empty_text"),
        (b'{"_id": "p1", "text": "again"}', "duplicate_id"),
        (b'{"_id": "p2", "text": "caf\xe9"}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "\\ud800"}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "a\\u0000b"}', "invalid_utf8"),
    ],
)
def test_a_bad_passage_is_rejected_with_its_reason_and_line(tmp_path, line, reason):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(GOOD + line + b"\n" + b'{"_id": "p9", "text": "after"}\n')

    reading = read_corpus(path)

    assert [passage.passage_id for passage in reading.rows] == ["p1", "p9"]
    assert [(row.line, row.reason) for row in reading.rejected] == [(2, reason)]


def test_rows_in_are_rows_kept_plus_rows_rejected(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(GOOD * 3 + b"nonsense\n\n" + b'{"_id": 5, "text": "a number as id"}\n')

    reading = read_corpus(path)

    assert [passage.passage_id for passage in reading.rows] == ["p1", "5"]
    assert reading.reasons() == Counter(duplicate_id=2, malformed_json=1)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"_id": "q1", "text": "why?", "answers": ["because"]}\r\n')

    reading = read_queries(path)

    assert [(query.query, query.answers) for query in reading.rows] == [("why?", ("because",))]


@pytest.mark.parametrize("answers", ['"one"', "[1]", '{"a": 1}'])
def test_answers_must_be_a_list_of_strings(tmp_path, answers):
    path = tmp_path / "queries.jsonl"
    path.write_text(f'{{"_id": "q1", "text": "why?", "answers": {answers}}}\n')

    assert read_queries(path).reasons() == Counter(wrong_type=1)


def test_qrels_are_read_with_a_header_and_in_the_form_of_trec(tmp_path):
    beir, trec = tmp_path / "beir.tsv", tmp_path / "trec.txt"
    beir.write_text("query-id\tcorpus-id\tscore\nq1\tp1\t2\n")
    trec.write_text("q1 0 p1 2\n")

    assert read_qrels(beir).rows == read_qrels(trec).rows == [("q1", "p1", 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q1\tp1", "wrong_columns"),
        ("q1\tp1\thigh", "bad_relevance"),
        ("\tp1\t1", "empty_id"),
        ("q0\tp0\t1", "duplicate_id"),
    ],
)
def test_a_bad_qrel_is_rejected_with_its_reason(tmp_path, line, reason):
    path = tmp_path / "qrels.tsv"
    path.write_text(f"query-id\tcorpus-id\tscore\nq0\tp0\t1\n{line}\n")

    reading = read_qrels(path)

    assert reading.rows == [("q0", "p0", 1)]
    assert [row.reason for row in reading.rejected] == [reason]


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        read_corpus(tmp_path / "nowhere.jsonl")
