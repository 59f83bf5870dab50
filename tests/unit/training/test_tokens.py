"""Token shards, looked up by id."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.errors import DataError
from winnow.training.tokens import TOKENS, TokenStore


@pytest.fixture
def store(tmp_path):
    parts = [
        [("passage", "a", [7, 8, 9]), ("query", "a", [1])],
        [("passage", "b", [4]), ("query", "c", [2, 3])],
    ]
    for number, rows in enumerate(parts):
        table = pa.Table.from_pylist([dict(zip(TOKENS.names, row, strict=True)) for row in rows], schema=TOKENS)
        pq.write_table(table, tmp_path / f"part-{number}.parquet")
    return TokenStore(tmp_path)


def test_texts_are_found_in_any_shard_and_sides_do_not_mix(store):
    assert store.tokens("passage", "a") == [7, 8, 9]
    assert store.tokens("query", "a") == [1]
    assert store.tokens("query", "c") == [2, 3]
    assert store.length("passage", "b") == 1
    assert sorted(store.lengths("passage")) == [1, 3]


def test_an_unknown_text_is_named(store):
    with pytest.raises(DataError, match="no tokens for query 'b'"):
        store.tokens("query", "b")


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(DataError, match="no token shards"):
        TokenStore(tmp_path / "nothing")
