"""Datasets written in parts are those written at once."""

import pyarrow.parquet as pq
import pytest

from winnow import schema

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
