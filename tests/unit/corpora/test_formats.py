"""The same rows out of every format: what is given, and what is read or said."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.corpora.beir import read_corpus, read_qrels, read_queries
from winnow.errors import DataError

PASSAGES = [("p1", "one"), ("p2", "two")]
LINES = b'{"_id": "p1", "text": "one"}\n{"_id": "p2", "text": "two"}\n'
PAIRS = [("q1", "p1", 1), ("q2", "p2", 0)]


def zstd(*parts: bytes) -> bytes:
    return b"".join(pa.compress(part, codec="zstd", asbytes=True) for part in parts)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("corpus.jsonl", LINES),
        ("corpus.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("named-wrongly.jsonl", gzip.compress(LINES, mtime=0)),
        ("corpus.jsonl.gz", gzip.compress(LINES[:29], mtime=0) + gzip.compress(LINES[29:], mtime=0)),
        ("corpus.jsonl.zst", zstd(LINES)),
        ("corpus.jsonl.zst", zstd(LINES[:29], LINES[29:])),
        ("no-ending", LINES),
        ("corpus.txt", LINES),
        ("corpus.jsonl", b"\xef\xbb\xbf\n\n" + LINES.replace(b"\n", b"\r\n")),
        ("pyserini.jsonl", b'{"id": "p1", "contents": "one"}\n{"id": "p2", "contents": "two"}\n'),
        ("both.jsonl", b'{"id": 7, "_id": "p1", "text": "one"}\n{"_id": null, "id": "p2", "text": "two"}\n'),
        ("array.json", b'[{"_id": "p1", "text": "one"}, {"_id": "p2", "text": "two"}]'),
        ("array.json", b'\n [\n  {"id": "p1", "text": "one"},\n  {"id": "p2",\n "contents": "two"}\n]\n'),
        ("array.json.gz", gzip.compress(b'[{"_id": "p1", "text": "one"},\n{"_id": "p2", "text": "two"}]', mtime=0)),
        ("collection.tsv", b"p1\tone\np2\ttwo\n"),
        ("collection.tsv.gz", gzip.compress(b"p1\tone\r\np2\ttwo\r\n", mtime=0)),
        ("header.tsv", b"text\ttitle\tid\none\t\tp1\ntwo\tT\tp2\n"),
        ("quoted.tsv", b'"id"\t"text"\n"p1"\t"one"\n"p2"\ttwo\n'),
        ("frame.csv", b",id,text\n0,p1,one\n1,p2,two\n"),
        ("bom.csv", b'\xef\xbb\xbf"id","text"\r\n"p1","one"\r\n\r\n"p2","two"\r\n'),
        ("upper.csv", b"ID,Text\np1,one\np2,two\n"),
    ],
)
def test_passages_are_read_from_text(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)

    reading = read_corpus(path)

    assert [(passage.passage_id, passage.text) for passage in reading.rows] == PASSAGES
    assert reading.rejected == []


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        # A raw file's quotes are text; CSV's are not, and a quoted cell may have commas, quotes and lines.
        ("raw.tsv", b'p1\t"a" b\np2\t"c"\n', ['"a" b', '"c"']),
        ("dpr.tsv", b'id\ttext\np1\t"say ""a"", b"\np2\t"a" or "b"\n', ['say "a", b', '"a" or "b"']),
        ("some.csv", b'id,text\np1,"a, ""b""\nc"\np2,d\n', ['a, "b"\nc', "d"]),
        ("wide.csv", b"id,text\np1," + b"x" * 200_000 + b"\n", ["x" * 200_000]),
    ],
)
def test_quotes_belong_to_the_text_or_to_the_format(tmp_path, name, content, texts):
    path = tmp_path / name
    path.write_bytes(content)

    assert [passage.text for passage in read_corpus(path).rows] == texts


@pytest.mark.parametrize(
    ("name", "content", "kept", "rejected"),
    [
        ("a.jsonl", b'["p0"]\n' + LINES, ["p1", "p2"], [(1, "not_an_object")]),
        ("a.jsonl", b"[1,\n" + LINES, ["p1", "p2"], [(1, "malformed_json")]),
        (
            "a.json",
            b'[{"_id": "p1", "text": "x"}, 5, {"text": "y"}]',
            ["p1"],
            [(2, "not_an_object"), (3, "missing_field")],
        ),
        (
            "a.json",
            b'[{"_id": "p1", "text": "x"}, {"_id": "p2", "text": ' + b"9" * 5000 + b"}]",
            ["p1"],
            [(2, "wrong_type")],
        ),
        ("a.tsv", b"p1\tx\nnothing\np2\ty\tz\n\np3\ty\n", ["p1", "p3"], [(2, "wrong_columns"), (3, "wrong_columns")]),
        ("a.tsv", b"\xff\tx\np1\tx\n\xff\ty\n", ["p1"], [(1, "invalid_utf8"), (3, "invalid_utf8")]),
        ("a.csv", b"id,text\np1,x\np2\np3,caf\xe9\np4,y\n", ["p1", "p4"], [(3, "wrong_columns"), (4, "invalid_utf8")]),
        ("a.csv", b'id,text\np1,x\np2,"a" b\np3,y\n', ["p1", "p3"], [(3, "malformed_csv")]),
        ("a.csv", b'id,text\np1,x\np2,"never closed\np3,y\n', ["p1"], [(4, "malformed_csv")]),
        ("a.csv", b"id,text,metadata\np1,x,\np2,y,{oops\n", ["p1"], [(3, "wrong_type")]),
        # A data frame writes a text of two lines so; half a text must not pass for the whole.
        ("a.tsv", b'id\ttext\np1\t"x\ny"\np2\tz\n', ["p2"], [(2, "open_quote"), (3, "wrong_columns")]),
        ("a.tsv", b'id\ttitle\ttext\np1\t"x\ty"\np2\tt\tz\n', ["p2"], [(2, "open_quote")]),
    ],
)
def test_a_bad_row_of_any_format_is_rejected_with_its_place(tmp_path, name, content, kept, rejected):
    path = tmp_path / name
    path.write_bytes(content)

    reading = read_corpus(path)

    assert [passage.passage_id for passage in reading.rows] == kept
    assert [(row.line, row.reason) for row in reading.rejected] == rejected


@pytest.mark.parametrize(
    ("name", "content", "way_out"),
    [
        ("a.jsonl", LINES.decode().encode("utf-16"), "iconv"),
        ("a.jsonl", LINES.decode().encode("utf-16-le"), "iconv"),
        ("a.jsonl", LINES.decode().encode("utf-16-be"), "iconv"),
        ("a.jsonl.gz", gzip.compress(LINES.decode().encode("utf-16"), mtime=0), "iconv"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "cut off"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:20] + b"xxxxxxxxxxxx", "damaged"),
        ("a.jsonl.zst", zstd(LINES * 99)[:-5], "cannot be read"),
        ("a.zip", b"PK\x03\x04rest", "zip archive; unpack"),
        ("a.jsonl.bz2", b"BZh91AY", "bzip2; unpack"),
        ("a.jsonl.xz", b"\xfd7zXZ\x00", "xz; unpack"),
        ("a.tar.gz", gzip.compress(b"corpus.jsonl".ljust(257, b"\0") + b"ustar\x0000", mtime=0), "tar archive; unpack"),
        ("a.parquet", b"PAR1nonsense", "Parquet"),
        ("a.csv", b"p1,one\n", "needs a column _id or id"),
        ("a.tsv", b"id\tbody\np1\tx\n", "needs a column text or contents"),
        ("a.tsv", b"p1\tx\ty\n", "has 3 columns and no header"),
        ("a.tsv", b"id\ttext\ttext\np1\tx\ty\n", "needs one column text"),
        ("a.csv", b"passage_id,passage-id,text\np1,p2,y\n", "needs one column passage_id"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_way_out(tmp_path, name, content, way_out):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError, match=rf"{name}.*{way_out}"):
        read_corpus(path)


def test_a_pipe_and_a_folder_are_refused_with_the_way_out(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(DataError, match="write it to a file"):
        read_corpus(tmp_path / "pipe")
    with pytest.raises(DataError, match="folder"):
        read_corpus(tmp_path)


ROWS = {
    "_id": ["p1", "p2"],
    "text": ["one", "two"],
    "title": [None, "T"],
    "metadata": [{"year": 1999, "tags": ["a"]}, None],
    "embedding": [[0.5], [0.25]],
}


def write_parquet(folder: Path) -> Path:
    pq.write_table(pa.table(ROWS), folder / "corpus.parquet")
    return folder / "corpus.parquet"


def write_dataset(folder: Path) -> Path:
    """As ``datasets.Dataset.save_to_disk`` does, in two files."""
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(ROWS).save_to_disk(folder / "split", num_shards=2)
    return folder / "split"


@pytest.mark.parametrize("write", [write_parquet, write_dataset])
def test_passages_are_read_from_tables_with_named_columns(tmp_path, write):
    rows = read_corpus(write(tmp_path)).rows

    assert [(p.passage_id, p.text, p.title) for p in rows] == [("p1", "one", ""), ("p2", "two", "T")]
    assert [p.metadata for p in rows] == [{"year": "1999", "tags": '["a"]'}, None]


def test_a_bad_row_in_the_second_file_of_a_dataset_has_its_place_in_the_whole(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({"_id": ["p1", "p2"], "text": ["x", ""]}).save_to_disk(tmp_path / "d", num_shards=2)

    assert [(row.line, row.reason) for row in read_corpus(tmp_path / "d").rejected] == [(2, "empty_text")]


def test_winnows_own_parquet_is_read_again(tmp_path):
    metadata = pa.array([[("year", "1999")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"passage_id": [5], "text": ["x"], "metadata": metadata}), tmp_path / "c.parquet")

    [passage] = read_corpus(tmp_path / "c.parquet").rows

    assert (passage.passage_id, passage.metadata) == ("5", {"year": "1999"})


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ({"_id": ["q", None], "text": ["x", "y"]}, (2, "missing_field")),
        ({"_id": ["q", "r"], "text": ["x", ""]}, (2, "empty_text")),
        # The first name that is there and not null.
        ({"_id": [None, "r"], "id": ["q", "s"], "text": [None, ""], "query": ["x", "y"]}, (2, "empty_text")),
    ],
)
def test_a_bad_row_of_a_table_is_rejected_with_its_place(tmp_path, columns, row):
    pq.write_table(pa.table(columns), tmp_path / "queries.parquet")

    reading = read_queries(tmp_path / "queries.parquet")

    assert [query.query_id for query in reading.rows] == ["q"]
    assert [(each.line, each.reason) for each in reading.rejected] == [row]


def test_a_dataset_with_several_splits_and_a_table_without_a_column_say_what_to_give(tmp_path):
    (tmp_path / "dataset_dict.json").write_text("{}")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "state.json").write_text(json.dumps({"_data_files": []}))
    pq.write_table(pa.table({"_id": ["q"], "body": ["x"]}), tmp_path / "c.parquet")
    pq.write_table(pa.table([["q"], ["x"], ["y"]], names=["_id", "text", "text"]), tmp_path / "twice.parquet")

    with pytest.raises(DataError, match="needs one column text"):
        read_corpus(tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"several splits.*train"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match=r"needs a column text or contents or passage; the file has \['_id', 'body'\]"):
        read_corpus(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("name", "content", "queries"),
    [
        ("queries.tsv", "17\twhy?\n18\thow?\n", [("17", "why?", ()), ("18", "how?", ())]),
        (
            "q.csv",
            'qid,question,answers\n1,why?,"[""because""]"\n2,how?,\n',
            [("1", "why?", ("because",)), ("2", "how?", ())],
        ),
        ("q.jsonl", '{"query_id": 3, "query": "who?"}', [("3", "who?", ())]),
    ],
)
def test_queries_are_read_under_the_names_that_they_go_by(tmp_path, name, content, queries):
    (tmp_path / name).write_text(content)

    assert [(q.query_id, q.query, q.answers) for q in read_queries(tmp_path / name).rows] == queries


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("beir.tsv", "query-id\tcorpus-id\tscore\nq1\tp1\t1\nq2\tp2\t0\n"),
        ("bom.tsv", "\ufeffquery-id\tcorpus-id\tscore\nq1\tp1\t1\nq2\tp2\t0\n"),
        ("reordered.tsv", "corpus-id\tquery-id\tscore\np1\tq1\t1\np2\tq2\t0\n"),
        ("frame.tsv", "\tquery-id\tcorpus-id\tscore\n0\tq1\tp1\t1\n1\tq2\tp2\t0\n"),
        ("more.tsv", "query-id\tannotator\tcorpus-id\tscore\tnote\nq1\tA\tp1\t1\t\nq2\tB\tp2\t0\tx\n"),
        ("names.tsv", "Query_ID\tDocID\tRelevance\nq1\tp1\t1\nq2\tp2\t0\n"),
        ("spaces.txt", "query-id corpus-id score\nq1 p1 1\nq2  p2 0\n"),
        ("trec.txt", "q1 0 p1 1\nq2 0 p2 0\n"),
        ("bom.txt", "\ufeffq1 0 p1 1\nq2 0 p2 0\n"),
        ("msmarco.tsv", "q1\t0\tp1\t1\nq2\t0\tp2\t0\n"),
        ("three.tsv", "q1\tp1\t1\nq2\tp2\t0\n"),
        ("floats.tsv", "q1\tp1\t1.0\nq2\tp2\t0.0\n"),
        ("some.csv", "score,corpus-id,query-id\n1,p1,q1\n0,p2,q2\n"),
        (
            "some.jsonl",
            '{"query-id": "q1", "corpus-id": "p1", "score": 1}\n{"query-id": "q2", "corpus-id": "p2", "score": 0.0}',
        ),
    ],
)
def test_labels_are_read_by_their_header_or_by_the_number_of_columns(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))

    for path in (tmp_path / name, tmp_path / f"{name}.gz"):
        reading = read_qrels(path)
        assert (reading.rows, reading.rejected) == (PAIRS, [])


def test_a_first_row_whose_query_begins_like_a_header_is_a_row(tmp_path):
    (tmp_path / "q.tsv").write_text("query-id-17\tp1\t1\nquery-idle\tp2\t1\n")

    assert read_qrels(tmp_path / "q.tsv").rows == [("query-id-17", "p1", 1), ("query-idle", "p2", 1)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("q1\tp1\n", "has 2 columns and no header"),
        ("q1\t0\tp1\t1\tx\n", "has 5 columns and no header"),
        ("query-id\tcorpus-id\nq1\tp1\n", "needs a column score or relevance"),
        ("query-id\tpassage\tscore\nq1\tp1\t1\n", "needs a column corpus-id or passage-id"),
        ("topic\tdocid\tscore\nq1\tp1\t1\n", "needs a column query-id or qid"),
    ],
)
def test_labels_whose_columns_nothing_names_are_refused(tmp_path, content, complaint):
    (tmp_path / "q.tsv").write_text(content)

    with pytest.raises(DataError, match=complaint):
        read_qrels(tmp_path / "q.tsv")


def test_labels_are_read_from_parquet(tmp_path):
    table = pa.table({"score": [1, 0], "corpus-id": ["p1", "p2"], "query-id": ["q1", "q2"], "split": ["a", "b"]})
    pq.write_table(table, tmp_path / "q.parquet")

    assert read_qrels(tmp_path / "q.parquet").rows == PAIRS
