"""Embeddings on disk: whole, in order, finite."""

import numpy as np
import pytest

from winnow.errors import DataError
from winnow.retrieval.embeddings import read_embeddings, to_table, writing_embeddings


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
