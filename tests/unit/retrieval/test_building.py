"""Building an index from a stream of vectors."""

import weakref

import numpy as np
import pytest

from winnow.errors import DataError
from winnow.files import hash_tree
from winnow.retrieval import building
from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.vector_index import VectorIndex

DRAWS = np.random.default_rng(1)
VECTORS = DRAWS.normal(size=(300, 8)).astype(np.float32)


def build(directory, read, *, num_vectors=300, dimension=8, seed=0, **settings):
    build_index(
        directory, read, num_vectors=num_vectors, dimension=dimension, config=IndexConfig(**settings), seed=seed
    )
    return directory


def in_batches(*sizes):
    """The vectors in batches of ``sizes``, over and over."""

    def read():
        start = 0
        while start < len(VECTORS):
            for size in sizes:
                yield VECTORS[start : start + size]
                start += size

    return read


@pytest.mark.parametrize(
    "factory", ["Flat", "SQ8", "PQ4x4", "OPQ4,PQ4x4", "HNSW8", "HNSW8,SQ8", "IVF4,Flat", "IVF4,PQ4x4"]
)
def test_the_files_depend_on_the_vectors_and_not_on_how_they_come(tmp_path, factory):
    settings = {"factory": factory, "shard_passages": 130}

    once = build(tmp_path / "a", in_batches(300), **settings)
    in_parts = build(tmp_path / "b", in_batches(7, 0, 64), **settings)

    assert sorted(hash_tree(once)) == ["index.json", *(f"shard-0000{number}.faiss" for number in range(3))]
    assert hash_tree(once) == hash_tree(in_parts)


def test_training_draws_by_the_seed_alone(tmp_path):
    settings = {"factory": "IVF4,SQ8", "train_vectors": 100}

    same, again = (build(tmp_path / name, in_batches(50), seed=1, **settings) for name in "ab")
    other = build(tmp_path / "c", in_batches(50), seed=2, **settings)

    assert hash_tree(same) == hash_tree(again)
    assert hash_tree(same) != hash_tree(other)


def test_the_vectors_are_stored_beside_an_index_that_is_rescored(tmp_path):
    build(tmp_path, in_batches(7), factory="SQ8", rescore=2, shard_passages=130)

    assert np.array_equal(np.load(tmp_path / "vectors.npy", allow_pickle=False), VECTORS)


@pytest.mark.parametrize("shard_passages", [50, 300, 1000])
def test_positions_are_those_of_the_stream(tmp_path, monkeypatch, shard_passages):
    monkeypatch.setattr(building, "_BLOCK", 16)
    directory = build(tmp_path, in_batches(7, 30), shard_passages=shard_passages)

    # Every vector times itself is more than any other product, once all have one length.
    queries = VECTORS * 100
    _, positions = VectorIndex.load(directory).search(queries, 300)

    expected = np.argsort(-(queries @ VECTORS.T), axis=1)
    assert (positions == expected).mean() > 0.999


def test_blocks_are_read_one_after_another_and_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "_BLOCK", 16)
    starts, given, alive = [], [], []

    def read():
        for start in range(0, 300, 10):
            starts.append(start)
            alive.append(sum(block() is not None for block in given))
            block = VECTORS[start : start + 10].copy()
            given.append(weakref.ref(block))
            yield block

    build(tmp_path, read, factory="SQ8", shard_passages=40)

    assert starts == [*range(0, 300, 10)] * 2
    # Two or three that lie in the 16 vectors to be added next, and the one that was read last.
    assert 1 <= max(alive) <= 4


def test_vectors_are_counted_over_all_shards(tmp_path, capsys):
    build(tmp_path, in_batches(300), shard_passages=200)

    assert "index: 300 vectors in" in capsys.readouterr().out


def test_an_index_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="no passage to index"):
        build(tmp_path, list, num_vectors=0)


@pytest.mark.parametrize(
    ("factory", "num_vectors", "message"),
    [
        ("Flat", 301, "expected 301 vectors, found fewer"),
        ("SQ8", 301, "expected 301 vectors, found fewer"),
        ("Flat", 299, "expected 299 vectors, found more"),
        ("Flat", 1, "expected 1 vectors, found more"),
    ],
)
def test_another_number_of_vectors_than_told_is_refused(tmp_path, factory, num_vectors, message):
    with pytest.raises(DataError, match=message):
        build(tmp_path, in_batches(50), num_vectors=num_vectors, factory=factory)

    assert not (tmp_path / "index.json").exists()


def test_a_stream_of_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="found fewer"):
        build(tmp_path, list)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_refused(tmp_path, value):
    bad = VECTORS.copy()
    bad[200, 3] = value

    with pytest.raises(DataError, match="not finite"):
        build(tmp_path, lambda: [bad])


def test_vectors_of_another_dimension_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected vectors of 9 dimensions, found an array of shape \(300, 8\)"):
        build(tmp_path, in_batches(300), dimension=9)


@pytest.mark.parametrize("factory", ["PQ3", "OPQ4_6,PQ4", "IVF4,PQ3"])
def test_codes_that_do_not_divide_the_dimensions_are_refused(tmp_path, factory):
    with pytest.raises(DataError, match=f"{factory} cannot hold vectors of 8 dimensions"):
        build(tmp_path, in_batches(300), factory=factory)


@pytest.mark.parametrize("factory", ["IVF512,Flat", "PQ4x9", "OPQ4,IVF512,PQ4x4", "OPQ3,PQ4x4"])
def test_too_few_vectors_to_train_on_and_rotations_that_do_not_fit_are_refused(tmp_path, factory):
    with pytest.raises(DataError, match=f"{factory} cannot be trained on 300 vectors of 8 dimensions"):
        build(tmp_path, in_batches(300), factory=factory)
