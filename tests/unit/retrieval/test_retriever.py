"""Searching a retriever version: modes, filters, what is fetched, what is refused."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest
from fakes import HashEncoder

from winnow import schema
from winnow.errors import DataError, IndexMismatchError
from winnow.records import Passage
from winnow.retrieval.bm25 import LexicalIndex
from winnow.retrieval.building import build_index
from winnow.retrieval.config import FusionConfig, IndexConfig
from winnow.retrieval.fields import FieldIndex
from winnow.retrieval.filtering import FilterCache, parse_filter
from winnow.retrieval.manifest import ContractRecord, Manifest, Provenance
from winnow.retrieval.passages import PassageFile
from winnow.retrieval.retriever import Hits, Retriever
from winnow.retrieval.vector_index import VectorIndex

PASSAGES = [
    Passage("p4", "otter river", title="Otter", document_id="d1", metadata={"source": "wiki"}),
    Passage("p1", "otter stone"),
    Passage("p2", "stone bridge bridge", metadata={"source": "docs"}),
    Passage("p3", "rain and river", document_id="d1", metadata={"source": "docs"}),
    Passage("p0", "snow"),
]
MANIFEST = Manifest(
    encoder_fingerprint="hash",
    contract=ContractRecord(
        pooling="mean", normalise=True, query_prefix="", passage_prefix="", query_max_tokens=9, passage_max_tokens=9
    ),
    dimension=64,
    num_passages=5,
    factory="Flat",
    bm25_language="english",
    fields={"document_id": 2, "passage_id": 5, "source": 3, "title": 5},
    files={},
    provenance=Provenance(built_at=datetime(2026, 1, 1, tzinfo=UTC), run_id=None),
)


def parts(passages=PASSAGES):
    table = schema.to_table(passages, schema.PASSAGES)
    file = PassageFile(table.combine_chunks().to_batches())
    return file, FilterCache(FieldIndex.build(file)), LexicalIndex.build(passages, "english")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    directory = tmp_path_factory.mktemp("index")
    vectors_PD = HashEncoder().encode([passage.text for passage in PASSAGES], side="passage")
    build_index(directory, lambda: [vectors_PD], num_vectors=5, dimension=64, config=IndexConfig())
    return VectorIndex.load(directory)


@pytest.fixture(scope="module")
def retriever(index):
    passages, filters, lexical = parts()
    return Retriever(HashEncoder(), index, passages, MANIFEST, filters, lexical=lexical)


def ids(found):
    return [[hit.passage_id for hit in hits] for hits in found]


def test_each_mode_ranks_in_its_own_way(retriever):
    queries = ["stone bridge", "snow rain"]

    assert ids(retriever.search(queries, 2)) == [["p2", "p1"], ["p0", "p3"]]
    assert ids(retriever.search(queries, 9, mode="bm25")) == [["p2", "p1"], ["p0", "p3"]]
    assert [len(hits) for hits in retriever.search(queries, 9, mode="dense")] == [5, 5]
    assert [hits[:2] for hits in ids(retriever.search(queries, 9, mode="hybrid"))] == [["p2", "p1"], ["p0", "p3"]]


def test_hybrid_adds_the_points_of_both_lists(index):
    passages, filters, lexical = parts()
    fusion = FusionConfig(rank_constant=1, dense_weight=0.25, depth=1)
    retriever = Retriever(HashEncoder(), index, passages, MANIFEST, filters, lexical=lexical, fusion=fusion)

    found = retriever.search(["otter bridge"], 3, mode="hybrid")[0]

    # k is more than depth, so each list is read three deep. Dense: p2 (2/sqrt 10), then p4 and p1 (1/2) by position.
    # BM25: p2 has "bridge" twice, p4 "otter" twice (its title counts), p1 "otter" once.
    assert [hit.passage_id for hit in found] == ["p2", "p4", "p1"]
    assert [hit.score for hit in found] == pytest.approx([1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_a_filter_leaves_only_its_passages_in_every_mode(retriever, mode):
    wanted = parse_filter({"source": ["docs"]})

    found = retriever.search(["stone river otter"], 3, mode=mode, filter=wanted)

    assert sorted(ids(found)[0]) == ["p2", "p3"]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_a_filter_that_lets_nothing_through_finds_nothing(retriever, mode):
    wanted = parse_filter({"source": "docs", "title": "Otter"})

    assert retriever.search(["otter", "stone"], 3, mode=mode, filter=wanted) == [[], []]


def test_an_unknown_field_is_refused_with_the_known_ones(retriever):
    with pytest.raises(DataError, match=r"field 'colour'; .*document_id, passage_id, source, title$"):
        retriever.search(["otter"], 3, filter=parse_filter({"colour": "red"}))


def test_words_that_nobody_wrote_leave_hybrid_to_the_vectors(retriever):
    assert retriever.search(["zebra"], 3, mode="bm25") == [[]]
    assert len(retriever.search(["zebra"], 3, mode="hybrid")[0]) == 3
    assert retriever.search(["", "!?"], 3, mode="bm25") == [[], []]


def test_results_carry_every_field_and_text_on_request_only(retriever):
    full, light = (retriever.search(["otter river"], 1, with_text=with_text)[0][0] for with_text in (True, False))

    assert (full.title, full.text, full.document_id, full.metadata) == (
        "Otter",
        "otter river",
        "d1",
        {"source": "wiki"},
    )
    assert (light.title, light.text, light.document_id, light.metadata) == ("Otter", "", "d1", {"source": "wiki"})
    assert full.score == light.score == pytest.approx(1.0)


def test_no_queries_and_more_results_than_passages_are_fine(retriever):
    assert retriever.search([], k=3) == []
    assert [len(hits) for hits in retriever.search(["otter"], k=10**6)] == [5]


@pytest.mark.parametrize("k", [0, -3])
def test_a_k_below_one_is_refused_in_every_mode(retriever, k):
    for mode in retriever.modes:
        with pytest.raises(DataError, match=f"k={k} asks for no passage"):
            retriever.search(["otter"], k, mode=mode)


def test_positions_of_minus_one_are_no_results(retriever):
    hits = Hits(np.zeros((2, 3), np.float32), np.array([[2, -1, -1], [-1, -1, -1]]))

    assert ids(retriever.fetch(hits)) == [["p2"], []]


def test_bm25_needs_no_vectors(retriever):
    hits = retriever.rank(["snow", "otter stone"], None, 2, mode="bm25")

    assert hits.positions_QK.tolist() == [[4, -1], [1, 0]]


def test_queries_of_another_dimension_are_refused_at_search(retriever):
    with pytest.raises(IndexMismatchError, match=r"the queries have 32 dimensions and version \w+ has 64"):
        retriever.search_vectors(np.zeros((1, 32), np.float32), 3)


def test_another_runtime_of_the_encoder_is_the_same_version(retriever):
    other = HashEncoder()

    moved = retriever.with_encoder(other)

    assert moved.encoder is other
    assert moved.version == retriever.version
    assert ids(moved.search(["stone bridge"], 2, mode="hybrid")) == ids(
        retriever.search(["stone bridge"], 2, mode="hybrid")
    )


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (HashEncoder(fingerprint="other"), "encoder fingerprint: 'other', expected 'hash'"),
        (HashEncoder(dimension=32), "dimension of the encoder: 32, expected 64"),
    ],
)
def test_another_encoder_is_refused(retriever, encoder, message):
    with pytest.raises(IndexMismatchError, match=f"not of one retriever version: {message}"):
        retriever.with_encoder(encoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 63}, "dimension of the encoder: 64, expected 63; dimension of the index: 64, expected 63"),
        ({"factory": "HNSW32"}, "kind of index: 'Flat', expected 'HNSW32'"),
        ({"num_passages": 4}, "vectors in the index: 5, expected 4; passages: 5, expected 4; passages in BM25: 5,"),
    ],
)
def test_a_manifest_of_other_parts_is_refused(index, change, message):
    passages, filters, lexical = parts()

    with pytest.raises(IndexMismatchError, match=message):
        Retriever(HashEncoder(), index, passages, MANIFEST.model_copy(update=change), filters, lexical=lexical)


def test_fewer_passages_than_vectors_are_refused(index):
    passages, filters, lexical = parts(PASSAGES[:3])

    with pytest.raises(IndexMismatchError, match=r"passages: 3, expected 5; passages in BM25: 3, expected 5"):
        Retriever(HashEncoder(), index, passages, MANIFEST, filters, lexical=lexical)


def test_threads_search_as_one_after_the_other(retriever):
    queries = [passage.text for passage in PASSAGES] * 8
    wanted = parse_filter({"source": ["docs", "wiki"]})

    def search(query):
        return [ids(retriever.search([query], 3, mode=mode, filter=wanted)) for mode in retriever.modes]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(search, queries))

    assert found == [search(query) for query in queries]


def test_a_version_leaves_memory_with_its_last_use(index):
    passages, filters, lexical = parts()
    retriever = Retriever(HashEncoder(), index, passages, MANIFEST, filters, lexical=lexical)
    retriever.search(["otter"], 1, mode="hybrid", filter=parse_filter({"source": "docs"}))
    gone = weakref.ref(retriever), weakref.ref(lexical)
    gc.disable()

    try:
        del retriever, passages, lexical
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()
