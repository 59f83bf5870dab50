"""The FAISS index against plain matrix products."""

import numpy as np
import pytest
from pydantic import ValidationError

from winnow.errors import DataError
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.vector_index import VectorIndex


def unit_vectors(count, *, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("factory", ["Flat", "HNSW16"])
def test_results_equal_brute_force_and_survive_the_disk(tmp_path, factory):
    passages, queries = unit_vectors(300, seed=1), unit_vectors(20, seed=2)
    VectorIndex.build(passages, IndexConfig(factory=factory)).save(tmp_path / "index.faiss")

    index = VectorIndex.load(tmp_path / "index.faiss")
    scores, positions = index.search(queries, 5)

    products = queries @ passages.T
    assert (index.count, index.dimension) == (300, 16)
    assert (positions == np.argsort(-products, axis=1)[:, :5]).mean() > 0.95
    assert scores == pytest.approx(np.take_along_axis(products, positions, axis=1), abs=1e-5)


def test_asking_for_more_than_there_is_gives_all_there_is():
    index = VectorIndex.build(unit_vectors(3, seed=1), IndexConfig())

    assert index.search(unit_vectors(1, seed=2), 10)[1].shape == (1, 3)


def test_an_index_of_nothing_is_refused():
    with pytest.raises(DataError, match="no passage to index"):
        VectorIndex.build(np.empty((0, 16), np.float32), IndexConfig())


@pytest.mark.parametrize("settings", [{"factory": "IVF16,Flat"}, {"factory": "Flat", "ef_search": 64}])
def test_settings_that_cannot_work_are_refused(settings):
    with pytest.raises(ValidationError):
        IndexConfig(**settings)
