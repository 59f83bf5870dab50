"""Reading files from outside: every bad row is named, counted and survived."""

from collections import Counter

import pytest

from winnow.corpora.beir import read_corpus, read_qrels, read_queries
from winnow.corpora.store import write_quarantine
from winnow.errors import DataError
from winnow.records import Passage

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
        (b'{"_id": "p2", "text": "x", "metadata": [1999]}', "wrong_type"),
        (b'{"_id": "p2", "text": "x", "metadata": {"a": "\\ud800"}}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "x", "metadata": {"\\udfff": "a"}}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "x", "metadata": {"a": ["b", "\\ud800"]}}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "x", "metadata": {"a": "\\u0000"}}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "x", "title": "\\ud800"}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "x", "document_id": "\\ud800"}', "invalid_utf8"),
        (b'{"_id": "\\ud800", "text": "x"}', "invalid_utf8"),
        (b'{"_id": "p2", "text": "x", "year": ' + b"9" * 5000 + b"}", "malformed_json"),
        (b'{"_id": "p2", "text": "x", "metadata": ' + b'{"a": ' * 5000 + b"1" + b"}" * 5000 + b"}", "malformed_json"),
        (b'{"_id": "p2", "text": "x", "metadata": "year 1999"}', "wrong_type"),
        (b'{"_id": "p2", "text": "x", "document_id": 1.5}', "wrong_type"),
        (b'{"_id": "p2", "text": null, "contents": null}', "missing_field"),
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


@pytest.mark.parametrize(
    ("answers", "reason"),
    [('"one"', "wrong_type"), ("[1]", "wrong_type"), ('{"a": 1}', "wrong_type"), ('["\\ud800"]', "invalid_utf8")],
)
def test_answers_must_be_a_list_of_strings(tmp_path, answers, reason):
    path = tmp_path / "queries.jsonl"
    path.write_text(f'{{"_id": "q1", "text": "why?", "answers": {answers}}}\n')

    assert read_queries(path).reasons() == Counter({reason: 1})


@pytest.mark.parametrize(
    ("fields", "passage"),
    [
        ('"title": null, "document_id": null, "metadata": null', Passage("p", "x")),
        ('"document_id": 17', Passage("p", "x", document_id="17")),
        ('"document_id": ""', Passage("p", "x")),
        ('"metadata": {}', Passage("p", "x")),
        ('"metadata": {"year": null}', Passage("p", "x")),
        # scidocs: years, lists and absent values; CQADupStack: nested tags.
        (
            '"metadata": {"year": 1999, "rate": 0.5, "open": true, "none": null, "authors": ["A", "É"], "refs": []}',
            Passage(
                "p",
                "x",
                metadata={"year": "1999", "rate": "0.5", "open": "true", "authors": '["A", "É"]', "refs": "[]"},
            ),
        ),
        ('"metadata": {"tags": {"a": [1, null]}}', Passage("p", "x", metadata={"tags": '{"a": [1, null]}'})),
    ],
)
def test_null_is_absent_and_metadata_of_any_type_become_text(tmp_path, fields, passage):
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"_id": "p", "text": "x", {fields}}}\n')

    assert read_corpus(path).rows == [passage]


def test_a_query_without_answers_may_say_so(tmp_path):
    path = tmp_path / "queries.jsonl"
    path.write_text('{"_id": "a", "text": "x", "answers": null}\n{"_id": "b", "text": "x", "answers": [null, "y"]}\n')

    assert [query.answers for query in read_queries(path).rows] == [(), ("y",)]


def test_what_is_rejected_can_be_written_to_a_file(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'["\\ud800"]\n[{"_id": "\xff"}]\n')

    (tmp_path / "corpus.csv").write_bytes(b"_id,text\np1,caf\xe9\n")
    rows = [*read_corpus(path).rejected, *read_corpus(tmp_path / "corpus.csv").rejected]

    assert len(rows) == 3
    write_quarantine(tmp_path / "quarantine.jsonl", rows)


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
        ("q1\tp1\t1.5", "bad_relevance"),
        ("q1\tp1\tnan", "bad_relevance"),
        ("q1\tp1\tinf", "bad_relevance"),
        ("q1\tp1\t", "bad_relevance"),
        ("q1\tp1\t2147483648", "bad_relevance"),
        ("q1\tp1\t-2147483649", "bad_relevance"),
        ("q1\tp1\t" + "9" * 5000, "bad_relevance"),
        ("q1\tp1\t1\t1", "wrong_columns"),
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
