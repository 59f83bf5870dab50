"""A retriever version: what is written is what is loaded, and nothing else is."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from fakes import HashEncoder
from tiny_models import tiny_encoder

from winnow import schema
from winnow.errors import IndexMismatchError
from winnow.records import Passage
from winnow.retrieval import vector_index
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.retriever import Retriever, load_retriever
from winnow.retrieval.vector_index import VectorIndex
from winnow.retrieval.version import read_manifest, write_version

PASSAGES = [
    Passage("p2", "otters sleep holding hands", title="Otter"),
    Passage("p1", "a bridge made of stone"),
    Passage("p3", "rain falls on the river all night long"),
]


def write_inputs(directory, encoder, passages=PASSAGES):
    corpus = schema.write_dataset(directory / "corpus.parquet", schema.to_table(passages, schema.PASSAGES))
    texts = [f"{passage.title} {passage.text}".strip() for passage in passages]
    with writing_embeddings(directory / "embeddings.parquet", fingerprint="f") as append:
        append(to_table([passage.passage_id for passage in passages], encoder.encode(texts, side="passage")))
    return corpus, directory / "embeddings.parquet"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    directory = tmp_path_factory.mktemp("version")
    encoder = tiny_encoder()
    corpus, embeddings = write_inputs(directory, encoder)
    (directory / "v").mkdir()
    write_version(directory / "v", encoder=encoder, passages=corpus, embeddings=embeddings, config=IndexConfig())
    return directory / "v"


@pytest.fixture
def copy(published, tmp_path):
    return shutil.copytree(published, tmp_path / "copy")


@pytest.fixture
def no_reader(monkeypatch):
    """Reading the index fails the test: a damaged file must be refused before that."""

    def read(path):
        pytest.fail(f"{path} was read before it was checked")

    monkeypatch.setattr(vector_index.faiss, "read_index", read)


def test_a_passage_is_found_by_its_own_text(published):
    retriever = load_retriever(published, device="cpu")

    found = retriever.search([f"{p.title} {p.text}".strip() for p in PASSAGES], k=2)

    assert [hits[0].passage_id for hits in found] == ["p2", "p1", "p3"]
    assert [len(hits) for hits in found] == [2, 2, 2]
    assert (found[0][0].title, found[0][0].text) == ("Otter", "otters sleep holding hands")
    assert found[0][0].score == pytest.approx(1.0, abs=1e-3)


def test_no_queries_and_more_results_than_passages_are_fine(published):
    retriever = load_retriever(published, device="cpu")

    assert retriever.search([], k=3) == []
    assert len(retriever.search(["otter"], k=100)[0]) == 3


def test_info_is_plain_json_and_names_the_version(published):
    info = load_retriever(published, device="cpu").info()

    assert json.loads(json.dumps(info)) == info
    assert info["version"] == read_manifest(published).version
    assert (info["num_passages"], info["dimension"], info["metric"]) == (3, 32, "inner_product")


def test_equal_inputs_give_equal_versions(published, tmp_path):
    encoder = tiny_encoder()
    corpus, embeddings = write_inputs(tmp_path, encoder)
    (tmp_path / "v").mkdir()

    again = write_version(tmp_path / "v", encoder=encoder, passages=corpus, embeddings=embeddings, config=IndexConfig())

    assert again == read_manifest(published)


@pytest.mark.parametrize(
    "name", ["index.faiss", "passages.parquet", "encoder/model.safetensors", "encoder/config.json"]
)
def test_a_flipped_bit_is_refused_before_the_index_is_read(copy, no_reader, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)

    with pytest.raises(IndexMismatchError, match=f"{name} has SHA-256 .*, the manifest says"):
        load_retriever(copy)


def test_a_truncated_index_is_refused_by_its_size(copy, no_reader):
    content = (copy / "index.faiss").read_bytes()
    (copy / "index.faiss").write_bytes(content[:-5])

    with pytest.raises(IndexMismatchError, match=r"index.faiss has 424 bytes, the manifest says 429"):
        load_retriever(copy)


def test_a_missing_file_is_named(copy, no_reader):
    (copy / "passages.parquet").unlink()

    with pytest.raises(IndexMismatchError, match=r"passages.parquet is missing"):
        load_retriever(copy)


def test_a_file_added_beside_the_weights_is_refused(copy, no_reader):
    (copy / "encoder" / "adapter_config.json").write_text("{}")

    with pytest.raises(IndexMismatchError, match=r"adapter_config.json is not in the manifest"):
        load_retriever(copy)


def test_a_manifest_that_leaves_a_part_out_is_refused(copy, no_reader):
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["index.faiss"]
    (copy / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(IndexMismatchError, match=r"the manifest does not list index.faiss"):
        load_retriever(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', "\udcff"])
def test_a_manifest_that_cannot_be_read_is_refused(copy, no_reader, content):
    (copy / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(IndexMismatchError, match="is no manifest of this release"):
        load_retriever(copy)


def test_a_directory_without_a_manifest_is_refused(tmp_path, no_reader):
    with pytest.raises(IndexMismatchError, match=r"no retriever version at .*build one with `winnow index`"):
        load_retriever(tmp_path / "nowhere")


def test_embeddings_of_other_passages_are_refused(tmp_path):
    encoder = tiny_encoder()
    _, embeddings = write_inputs(tmp_path, encoder)
    other = schema.write_dataset(tmp_path / "other.parquet", schema.to_table(PASSAGES[::-1], schema.PASSAGES))

    with pytest.raises(IndexMismatchError, match=r"embeddings.parquet is not of the passages in"):
        write_version(tmp_path, encoder=encoder, passages=other, embeddings=embeddings, config=IndexConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_fingerprint": "another"}, "encoder fingerprint: 'hash', expected 'another'"),
        ({"dimension": 63}, "dimension of the encoder: 64, expected 63; dimension of the index: 64, expected 63"),
        ({"num_passages": 4}, "vectors in the index: 3, expected 4; passages: 3, expected 4"),
    ],
)
def test_parts_of_different_versions_are_refused(published, change, message):
    encoder = HashEncoder()
    index = VectorIndex.build(encoder.encode([passage.text for passage in PASSAGES], side="passage"), IndexConfig())
    table = schema.to_table(PASSAGES, schema.PASSAGES)
    told = {"encoder_fingerprint": "hash", "dimension": 64, "num_passages": 3}
    manifest = read_manifest(published).model_copy(update=told)
    Retriever(encoder, index, table, manifest)

    with pytest.raises(IndexMismatchError, match=message):
        Retriever(encoder, index, table, manifest.model_copy(update=change))


def test_a_table_with_fewer_passages_than_vectors_is_refused(published):
    encoder = HashEncoder()
    index = VectorIndex.build(np.eye(3, 64, dtype=np.float32), IndexConfig())
    told = {"encoder_fingerprint": "hash", "dimension": 64, "num_passages": 3}
    table: pa.Table = schema.to_table(PASSAGES[:2], schema.PASSAGES)

    with pytest.raises(IndexMismatchError, match="passages: 2, expected 3"):
        Retriever(encoder, index, table, read_manifest(published).model_copy(update=told))
