"""The vector index against plain matrix products."""

from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from fakes import subset_of

from winnow.errors import ConfigError, DataError, IndexMismatchError
from winnow.retrieval import ranking, shard
from winnow.retrieval.building import build_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.index_files import read_description
from winnow.retrieval.vector_index import VectorIndex

KINDS = {
    "Flat": {},
    "SQ8": {},
    "SQfp16": {},
    "PQ8x4": {},
    "HNSW16": {"ef_construction": 40, "ef_search": 40},
    "HNSW16,SQ8": {"ef_construction": 40, "ef_search": 40},
    "IVF8,Flat": {"num_probes": 4},
    "IVF8,SQ8": {"num_probes": 4},
    "IVF8,PQ8x4": {"num_probes": 4},
    "OPQ4_8,IVF8,PQ4x4": {"num_probes": 4, "train_vectors": 256},
}
QUANTISED = [factory for factory in KINDS if "Q" in factory]
COUNT = 600


def unit_vectors(count, *, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


PASSAGES, QUERIES = unit_vectors(COUNT, seed=1), unit_vectors(30, seed=2)
PRODUCTS = QUERIES @ PASSAGES.T


def made(directory, passages, factory="Flat", **settings):
    config = IndexConfig(factory=factory, **{**KINDS[factory], **settings})
    build_index(directory, lambda: [passages], num_vectors=len(passages), dimension=16, config=config)
    return VectorIndex.load(directory)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """An index of ``PASSAGES`` by kind, number of shards and rescoring, made when first asked for."""
    cache = {}

    def get(factory, *, num_shards=1, rescore=None):
        key = (factory, num_shards, rescore)
        if key not in cache:
            more = {"rescore": rescore} if rescore else {}
            most = -(-COUNT // num_shards)
            cache[key] = made(tmp_path_factory.mktemp("index"), PASSAGES, factory, shard_passages=most, **more)
        return cache[key]

    return get


def brute_force(k, is_member=None):
    products = PRODUCTS if is_member is None else np.where(is_member, PRODUCTS, -np.inf)
    return np.argsort(-products, axis=1, kind="stable")[:, :k]


def recall(found, expected):
    return np.mean(
        [len(set(one.tolist()) & set(other.tolist())) / len(other) for one, other in zip(found, expected, strict=True)]
    )


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "HNSW16"])
def test_results_are_those_of_brute_force(indexes, factory):
    index = indexes(factory)

    scores, positions = index.search(QUERIES, 5)

    assert (index.count, index.dimension, index.factory) == (600, 16, factory)
    assert (positions == brute_force(5)).mean() > 0.97
    assert scores == pytest.approx(np.take_along_axis(PRODUCTS, positions, axis=1), abs=2e-3)


@pytest.mark.parametrize("factory", KINDS)
def test_results_are_the_same_mapped_or_in_memory_alone_or_in_a_batch(tmp_path, factory):
    mapped = made(tmp_path, PASSAGES, factory)

    scores, positions = mapped.search(QUERIES, 7)

    in_memory = VectorIndex.load(tmp_path, memory_map=False)
    assert np.array_equal(in_memory.search(QUERIES, 7)[1], positions)
    alone = [mapped.search(QUERIES[number : number + 1], 7) for number in range(len(QUERIES))]
    assert np.array_equal(np.concatenate([found for _, found in alone]), positions)
    assert np.concatenate([found for found, _ in alone]) == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("k", [1, 5, 300, 600])
@pytest.mark.parametrize("factory", ["Flat", "SQ8", "IVF8,Flat"])
def test_shards_together_give_what_one_index_gives(indexes, factory, k):
    scores, positions = indexes(factory).search(QUERIES, k)
    sharded_scores, sharded_positions = indexes(factory, num_shards=7).search(QUERIES, k)

    assert np.array_equal(sharded_positions, positions)
    assert np.array_equal(sharded_scores[positions >= 0], scores[positions >= 0])


@pytest.mark.parametrize("factory", ["IVF8,Flat", "IVF8,SQ8"])
def test_shards_of_lists_together_give_the_same_members_as_one_index(indexes, factory):
    one, many = indexes(factory), indexes(factory, num_shards=7)

    for num_members in [1, 5, 50, 300, 600]:
        is_member = np.zeros(COUNT, bool)
        is_member[np.random.default_rng(8).choice(COUNT, num_members, replace=False)] = True
        for queries in (QUERIES, QUERIES[:1]):
            scores, positions = one.search(queries, 5, among=subset_of(is_member))
            found = many.search(queries, 5, among=subset_of(is_member))

            assert np.array_equal(found[1], positions)
            assert np.array_equal(found[0], scores)


def test_which_lists_are_nearest_is_found_once_for_all_shards(indexes, tmp_path):
    made(tmp_path, PASSAGES, "IVF8,Flat", shard_passages=90)
    many = VectorIndex.load(tmp_path, memory_map=False)
    among = subset_of(np.arange(COUNT) % 2 == 0)
    (shard,) = many._shards
    for ivf in shard._index._ivfs[1:]:
        # Asked once more, these would name no list, and nothing would be found in them.
        ivf.quantizer.reset()

    for subset in (None, among):
        expected = indexes("IVF8,Flat").search(QUERIES, 5, among=subset)[1]
        assert np.array_equal(many.search(QUERIES, 5, among=subset)[1], expected)


@pytest.mark.parametrize("factory", ["PQ8x4", "OPQ4_8,IVF8,PQ4x4"])
def test_shards_of_codes_give_the_same_up_to_rounding(indexes, factory):
    """FAISS adds up the parts of a code in an order that depends on where in its list the code stands."""
    scores, positions = indexes(factory).search(QUERIES, 5)
    sharded_scores, sharded_positions = indexes(factory, num_shards=7).search(QUERIES, 5)

    assert sharded_scores == pytest.approx(scores, abs=1e-5)
    assert (sharded_positions == positions).mean() > 0.95


@pytest.mark.parametrize("num_shards", [1, 3])
def test_equal_scores_are_in_the_order_of_positions_even_across_the_cut(tmp_path, num_shards):
    passages = np.repeat(unit_vectors(30, seed=3), 20, axis=0)
    shuffled = passages[np.random.default_rng(4).permutation(COUNT)]
    index = made(tmp_path, shuffled, shard_passages=-(-COUNT // num_shards))

    _, positions = index.search(QUERIES[:10], 33)

    # The score of a passage by itself, so that equal passages have equal scores.
    products = np.array([[np.dot(passage, query) for passage in shuffled] for query in QUERIES[:10]])
    assert np.array_equal(positions, np.argsort(-products, axis=1, kind="stable")[:, :33])


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("factory", QUANTISED)
def test_rescoring_gives_exact_scores_and_more_of_the_best(indexes, factory, num_shards):
    exact = indexes(factory, num_shards=num_shards, rescore=8)
    plain = indexes(factory, num_shards=num_shards)

    scores, positions = exact.search(QUERIES, 5)

    assert scores == pytest.approx(np.take_along_axis(PRODUCTS, positions, axis=1), abs=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert recall(positions, brute_force(5)) >= recall(plain.search(QUERIES, 5)[1], brute_force(5))
    if "IVF" not in factory:
        assert recall(positions, brute_force(5)) > 0.9


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize(
    ("factory", "rescore"), [*((kind, None) for kind in KINDS), *((kind, 4) for kind in QUANTISED)]
)
def test_a_subset_gives_k_of_its_members_and_the_best_of_them(indexes, factory, rescore, num_shards):
    index = indexes(factory, num_shards=num_shards, rescore=rescore)
    usual = recall(index.search(QUERIES, 5)[1], brute_force(5))

    for num_members in [1, 4, 40, 300, 599, 600]:
        is_member = np.zeros(COUNT, bool)
        is_member[np.random.default_rng(5).choice(COUNT, num_members, replace=False)] = True
        scores, positions = index.search(QUERIES, 5, among=subset_of(is_member))

        assert positions.shape == scores.shape == (30, min(5, num_members))
        assert (positions >= 0).all()
        assert is_member[positions].all()
        assert all(len(set(row)) == len(row) for row in positions.tolist())
        assert recall(positions, brute_force(min(5, num_members), is_member)) >= usual - 0.05


@pytest.mark.parametrize("factory", ["HNSW16", "IVF8,Flat", "PQ8x4"])
def test_members_far_from_the_query_are_found_all_the_same(indexes, factory):
    index = indexes(factory)
    query = QUERIES[:1]
    is_member = np.zeros(COUNT, bool)
    is_member[np.argsort(PRODUCTS[0])[:150]] = True

    _, positions = index.search(query, 100, among=subset_of(is_member))

    assert positions.shape == (1, 100)
    assert is_member[positions].all()
    assert recall(positions, brute_force(100, is_member)[:1]) >= (0.75 if "PQ" in factory else 0.95)


WIDE = 6_000
"""Passages of which half are too many to be compared one by one: the graph is walked."""
MORE_PASSAGES = unit_vectors(WIDE, seed=6)
MORE_PRODUCTS = QUERIES @ MORE_PASSAGES.T


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return made(tmp_path_factory.mktemp("graph"), MORE_PASSAGES, "HNSW16")


@pytest.fixture
def compared(monkeypatch):
    """For how many queries how many members were compared one by one, search by search."""
    calls = []

    def best_members(queries_QD, positions_S, *rest):
        calls.append((len(queries_QD), len(positions_S)))
        return ranking.best_members(queries_QD, positions_S, *rest)

    monkeypatch.setattr(shard, "best_members", best_members)
    return calls


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_graph_is_walked_for_the_members_of_a_wide_subset(graph, compared, share):
    is_member = np.random.default_rng(7).random(WIDE) < share
    expected = np.argsort(-np.where(is_member, MORE_PRODUCTS, -np.inf), axis=1)[:, :10]

    scores, positions = graph.search(QUERIES, 10, among=subset_of(is_member))

    assert compared == []
    assert is_member[positions].all()
    assert recall(positions, expected) > 0.97
    assert scores == pytest.approx(np.take_along_axis(MORE_PRODUCTS, positions, axis=1), abs=1e-5)


def test_the_members_of_a_narrow_subset_of_a_graph_are_compared_one_by_one(graph, compared):
    is_member = np.random.default_rng(7).random(WIDE) < 0.1
    expected = np.argsort(-np.where(is_member, MORE_PRODUCTS, -np.inf), axis=1)[:, :10]

    _, positions = graph.search(QUERIES, 10, among=subset_of(is_member))

    assert compared == [(30, is_member.sum())]
    assert np.array_equal(positions, expected)


def test_where_a_walk_finds_too_few_members_they_are_compared_one_by_one(graph, compared):
    # Half of all passages, those that are farthest from the first query: a walk meets few of them on its way to it.
    is_member = np.zeros(WIDE, bool)
    is_member[np.argsort(MORE_PRODUCTS[0])[: WIDE // 2]] = True
    expected = np.argsort(-np.where(is_member, MORE_PRODUCTS[0], -np.inf))[:100]

    _, positions = graph.search(QUERIES[:1], 100, among=subset_of(is_member))

    assert compared == [(1, WIDE // 2)]
    assert np.array_equal(positions, [expected])


@pytest.mark.parametrize("num_shards", [1, 3])
def test_nothing_is_found_among_nothing(indexes, num_shards):
    scores, positions = indexes("Flat", num_shards=num_shards).search(
        QUERIES, 5, among=subset_of(np.zeros(COUNT, bool))
    )

    assert scores.shape == positions.shape == (30, 0)


@pytest.mark.parametrize("factory", KINDS)
def test_asking_for_more_than_there_is_gives_at_most_all(indexes, factory):
    _, positions = indexes(factory).search(QUERIES[:2], 10**9)

    found = [row[row >= 0].tolist() for row in positions]
    assert positions.shape == (2, 600)
    assert all(len(set(row)) == len(row) for row in found)
    assert "IVF" in factory or "HNSW" in factory or all(len(row) == 600 for row in found)


def test_no_query_and_no_result_asked_for_are_empty_answers(indexes):
    index = indexes("Flat")

    assert index.search(QUERIES[:0], 5)[1].shape == (0, 5)
    assert index.search(QUERIES, 0)[1].shape == (30, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("factory", KINDS)
def test_a_query_that_is_not_finite_leaves_the_one_beside_it_alone(indexes, factory, value):
    index = indexes(factory)
    bad = np.stack([QUERIES[0], np.full(16, value, np.float32), QUERIES[1]])

    for among in (None, subset_of(np.arange(COUNT) % 100 == 0), subset_of(np.arange(COUNT) % 2 == 0)):
        found = index.search(bad, 5, among=among)[1]
        assert np.array_equal(found[[0, 2]], index.search(QUERIES[:2], 5, among=among)[1])


@pytest.mark.parametrize("queries", [np.ones((2, 17), np.float32), np.ones(16, np.float32)])
def test_queries_of_another_shape_are_refused(indexes, queries):
    with pytest.raises(DataError, match=r"queries have shape .*, expected \(Q, 16\)"):
        indexes("Flat").search(queries, 5)


def test_queries_of_another_type_or_layout_are_taken_as_they_are_meant(indexes):
    index = indexes("Flat", num_shards=3)

    _, positions = index.search(np.asfortranarray(QUERIES.astype(np.float64)), 5)

    assert np.array_equal(positions, index.search(QUERIES, 5)[1])


@pytest.mark.parametrize("factory", ["Flat", "HNSW16", "IVF8,PQ8x4"])
def test_threads_search_the_same_index_at_the_same_time(indexes, factory):
    index = indexes(factory, num_shards=3)
    subsets = [None, subset_of(np.arange(COUNT) % 3 == 0), subset_of(np.arange(COUNT) % 50 == 0)]

    def search(number):
        return index.search(QUERIES[number % 30 :][:1], 5, among=subsets[number % 3])[1].tolist()

    expected = [search(number) for number in range(90)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(search, range(90))) == expected


def test_a_kind_that_no_gpu_searches_is_refused_for_one(tmp_path):
    made(tmp_path, PASSAGES, "SQ8")

    with pytest.raises(ConfigError, match="FAISS searches SQ8 on a CPU only"):
        VectorIndex.load(tmp_path, device="cuda")


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss knows GPUs")
def test_a_gpu_is_refused_by_a_faiss_without_one(tmp_path):
    made(tmp_path, PASSAGES)

    with pytest.raises(ConfigError, match="device cuda needs faiss-gpu and a CUDA device"):
        VectorIndex.load(tmp_path, device="cuda")


def test_a_folder_without_an_index_says_so(tmp_path):
    with pytest.raises(IndexMismatchError, match="no vector index at"):
        VectorIndex.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2}', '{"factory": "Flat", "dimension": 16, "shards": []}'])
def test_a_damaged_description_is_refused(tmp_path, text):
    made(tmp_path, PASSAGES)
    (tmp_path / "index.json").write_text(text)

    with pytest.raises(IndexMismatchError, match="does not describe an index of this release"):
        VectorIndex.load(tmp_path)


@pytest.mark.parametrize("memory_map", [True, False])
@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_shard_cut_short_is_refused(tmp_path, size, memory_map):
    made(tmp_path, PASSAGES)
    file = tmp_path / "shard-00000.faiss"
    file.write_bytes(file.read_bytes()[:size])

    with pytest.raises(IndexMismatchError, match=r"shard-00000.faiss cannot be read"):
        VectorIndex.load(tmp_path, memory_map=memory_map)


@pytest.mark.parametrize("factory", ["HNSW16", "IVF8,Flat", "SQ8"])
def test_a_shard_of_another_index_is_refused(tmp_path, factory):
    made(tmp_path / "flat", PASSAGES)
    made(tmp_path / "other", PASSAGES, factory)
    (tmp_path / "flat" / "shard-00000.faiss").replace(tmp_path / "other" / "shard-00000.faiss")

    with pytest.raises(IndexMismatchError, match=f"is IndexFlatIP of 600 x 16, expected {factory} of 600 x 16"):
        VectorIndex.load(tmp_path / "other")


def test_vectors_for_rescoring_that_cannot_be_read_are_refused(tmp_path):
    made(tmp_path, PASSAGES, "SQ8", rescore=2)
    (tmp_path / "vectors.npy").write_bytes(b"")

    with pytest.raises(IndexMismatchError, match=r"vectors.npy cannot be read"):
        VectorIndex.load(tmp_path)


def test_vectors_for_rescoring_that_are_of_another_index_are_refused(tmp_path):
    made(tmp_path, PASSAGES, "SQ8", rescore=2)
    np.save(tmp_path / "vectors.npy", PASSAGES[:-1])

    with pytest.raises(IndexMismatchError, match=r"holds float32 \(599, 16\), expected float32 \(600, 16\)"):
        VectorIndex.load(tmp_path)


def test_the_description_has_the_settings_that_count(tmp_path):
    made(tmp_path, PASSAGES, "IVF8,SQ8", rescore=3, shard_passages=250)

    assert read_description(tmp_path).model_dump() == {
        "format": 1,
        "factory": "IVF8,SQ8",
        "dimension": 16,
        "shards": (250, 250, 100),
        "ef_search": None,
        "num_probes": 4,
        "rescore": 3,
    }
