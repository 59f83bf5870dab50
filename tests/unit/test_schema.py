"""Datasets written in parts are those written at once."""

import pyarrow.parquet as pq
import pytest

from winnow import schema
from winnow.errors import DataError

ROWS = [{"query_id": f"q{i}", "passage_id": "p", "relevance": i} for i in range(5)]


def test_a_dataset_written_in_parts_reads_as_one_and_carries_its_fingerprint(tmp_path):
    with schema.writing_dataset(tmp_path / "parts.parquet", schema.QRELS, fingerprint="f1") as append:
        append(schema.to_table(ROWS[:3], schema.QRELS))
        append(schema.to_table(ROWS[3:], schema.QRELS))

    found = schema.read_dataset(tmp_path / "parts.parquet", schema.QRELS)
    assert found.to_pylist() == ROWS
    assert pq.read_metadata(tmp_path / "parts.parquet").metadata[b"winnow_fingerprint"] == b"f1"
    assert pq.read_metadata(tmp_path / "parts.parquet").num_row_groups == 2


def write_and_fail(path):
    with schema.writing_dataset(path, schema.QRELS) as append:
        append(schema.to_table(ROWS, schema.QRELS))
        raise RuntimeError("the disk is full")


def test_a_dataset_whose_writer_fails_is_not_there(tmp_path):
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path / "parts.parquet")

    assert list(tmp_path.iterdir()) == []


def test_a_column_that_was_added_later_is_null_and_a_required_one_that_is_missing_is_named(tmp_path):
    table = schema.to_table([{"query_id": "q1", "query": "what?", "answers": ["that"]}], schema.QUERIES)
    older, broken = tmp_path / "older.parquet", tmp_path / "broken.parquet"
    pq.write_table(table.drop_columns(["answers"]), older)
    pq.write_table(table.drop_columns(["query"]), broken)

    assert schema.read_dataset(older, schema.QUERIES).to_pylist() == [
        {"query_id": "q1", "query": "what?", "answers": None}
    ]
    with pytest.raises(DataError, match=r"broken\.parquet lacks the columns \['query'\]"):
        schema.read_dataset(broken, schema.QUERIES)
