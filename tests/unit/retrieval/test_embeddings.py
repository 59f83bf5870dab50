"""Embeddings on disk: whole, in order, finite."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.errors import DataError
from winnow.retrieval import embeddings as module
from winnow.retrieval.embeddings import read_embeddings, scan_embeddings, to_table, writing_embeddings


def test_parts_are_read_back_in_the_order_they_were_written(tmp_path):
    path = tmp_path / "embeddings.parquet"
    first, second = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((1, 3), 9, dtype=np.float32)

    with writing_embeddings(path, fingerprint="f") as append:
        append(to_table(["b", "a"], first))
        append(to_table(["c"], second))

    ids, embeddings = read_embeddings(path)
    assert ids == ["b", "a", "c"]
    assert embeddings.tolist() == [[0, 1, 2], [3, 4, 5], [9, 9, 9]]


def test_an_interrupted_write_leaves_no_file(tmp_path):
    def write_half():
        with writing_embeddings(tmp_path / "embeddings.parquet", fingerprint="f") as append:
            append(to_table(["a"], np.ones((1, 2), np.float32)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_its_passage_id(value):
    embeddings = np.ones((3, 2), np.float32)
    embeddings[1, 0] = value

    with pytest.raises(DataError, match="NaN or infinity for passage 'b' and 0 more"):
        to_table(["a", "b", "c"], embeddings)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"not parquet")

    with pytest.raises(DataError, match=r"broken.parquet does not hold embeddings"):
        read_embeddings(tmp_path / "broken.parquet")


def test_a_scan_gives_the_rows_block_by_block_as_often_as_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ROWS", 4)
    vectors = np.arange(33, dtype=np.float32).reshape(11, 3)
    ids = [f"p{number}" for number in range(11)]
    with writing_embeddings(tmp_path / "embeddings.parquet", fingerprint="f") as append:
        append(to_table(ids[:6], vectors[:6]))
        append(to_table(ids[6:], vectors[6:]))

    scan = scan_embeddings(tmp_path / "embeddings.parquet")

    assert (scan.count, scan.dimension) == (11, 3)
    for _ in range(2):
        blocks = list(scan.blocks())
        assert np.array_equal(np.concatenate(blocks), vectors)
        assert max(map(len, blocks)) <= 4
        assert list(scan.passage_ids()) == ids


@pytest.mark.parametrize(
    "column", [pa.array([[1.0], [2.0]], pa.list_(pa.float32())), pa.array([[1.0], [2.0]], pa.list_(pa.float64(), 1))]
)
def test_vectors_of_no_fixed_length_or_another_type_are_refused(tmp_path, column):
    pq.write_table(pa.table({"passage_id": ["a", "b"], "embedding": column}), tmp_path / "embeddings.parquet")

    with pytest.raises(DataError, match="expected float32 lists of one length"):
        scan_embeddings(tmp_path / "embeddings.parquet")


def test_a_file_without_ids_is_refused(tmp_path):
    pq.write_table(pa.table({"embedding": pa.array([[1.0]], pa.list_(pa.float32(), 1))}), tmp_path / "e.parquet")

    with pytest.raises(DataError, match="lacks the columns \\['passage_id'\\]"):
        scan_embeddings(tmp_path / "e.parquet")


def test_a_file_that_is_damaged_inside_is_named(tmp_path):
    path = tmp_path / "embeddings.parquet"
    with writing_embeddings(path, fingerprint="f") as append:
        append(to_table(["a", "b"], np.ones((2, 3), np.float32)))
    chunk = pq.read_metadata(path).row_group(0).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    damaged = bytearray(path.read_bytes())
    damaged[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(damaged)

    with pytest.raises(DataError, match=r"embeddings.parquet does not hold embeddings"):
        list(scan_embeddings(path).blocks())
