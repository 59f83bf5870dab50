"""The vector index on a CUDA device, with faiss-gpu: `python -m pytest -m gpu`. Not part of `make test`."""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from fakes import subset_of

from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.dense import ExactSearch
from winnow.retrieval.vector_index import VectorIndex

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0,
        reason="needs faiss-gpu and a CUDA device",
    ),
]

DRAWS = np.random.default_rng(1)
PASSAGES = DRAWS.normal(size=(5000, 64)).astype(np.float32)
QUERIES = DRAWS.normal(size=(40, 64)).astype(np.float32)
KINDS = {
    "Flat": {},
    "IVF32,Flat": {"num_probes": 8},
    "IVF32,SQ8": {"num_probes": 8},
    "IVF32,PQ16": {"num_probes": 8},
    "OPQ16,IVF32,PQ16": {"num_probes": 8},
}


@pytest.fixture(params=[1, 3], ids=["one shard", "three shards"])
def most(request):
    return -(-len(PASSAGES) // request.param)


def on_both(directory, factory, *, most, **settings):
    config = IndexConfig(factory=factory, shard_passages=most, **KINDS[factory], **settings)
    build_index(directory, lambda: [PASSAGES], num_vectors=len(PASSAGES), dimension=64, config=config)
    return VectorIndex.load(directory), VectorIndex.load(directory, device="cuda")


@pytest.mark.parametrize("factory", KINDS)
@pytest.mark.parametrize("k", [10, 4000])
def test_a_gpu_gives_the_results_of_a_cpu(tmp_path, factory, most, k):
    on_cpu, on_gpu = on_both(tmp_path, factory, most=most)

    expected_scores, expected = on_cpu.search(QUERIES, k)
    scores, positions = on_gpu.search(QUERIES, k)

    assert (positions == expected).mean() > 0.98
    assert np.where(positions < 0, 0, scores) == pytest.approx(np.where(expected < 0, 0, expected_scores), abs=0.05)


@pytest.mark.parametrize("factory", ["IVF32,SQ8", "IVF32,PQ16"])
def test_rescored_results_of_a_gpu_are_exact(tmp_path, factory, most):
    _, on_gpu = on_both(tmp_path, factory, most=most, rescore=8)

    scores, positions = on_gpu.search(QUERIES, 10)

    products = np.take_along_axis(QUERIES @ PASSAGES.T, positions, axis=1)
    assert scores == pytest.approx(products, abs=1e-4)


@pytest.mark.parametrize("factory", KINDS)
def test_a_subset_is_searched_as_on_a_cpu(tmp_path, factory, most):
    on_cpu, on_gpu = on_both(tmp_path, factory, most=most)
    subset = subset_of(DRAWS.random(len(PASSAGES)) < 0.01)

    assert np.array_equal(on_gpu.search(QUERIES, 10, among=subset)[1], on_cpu.search(QUERIES, 10, among=subset)[1])


@pytest.mark.parametrize("factory", ["Flat", "IVF32,Flat"])
def test_threads_take_turns_on_a_gpu(tmp_path, factory, most):
    _, on_gpu = on_both(tmp_path, factory, most=most)

    def search(number):
        return on_gpu.search(QUERIES[number % 40 :][:1], 10)[1].tolist()

    expected = [search(number) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(search, range(200))) == expected


def test_exact_search_finds_on_a_gpu_what_it_finds_on_a_cpu():
    passage_ids = [str(number) for number in range(len(PASSAGES))]

    on_cpu, on_gpu = (
        ExactSearch(passage_ids, PASSAGES, device=device).search(QUERIES, k=10) for device in ("cpu", "cuda")
    )

    assert [[hit.passage_id for hit in hits] for hits in on_gpu] == [
        [hit.passage_id for hit in hits] for hits in on_cpu
    ]
