"""A retriever version on disk: what is written is what is loaded, and nothing else is."""

import json
import shutil
from datetime import UTC, datetime
from random import Random

import pytest
from fakes import HashEncoder
from tiny_models import tiny_encoder

from winnow import schema
from winnow.errors import DataError, IndexMismatchError
from winnow.modeling.contract import Contract
from winnow.records import Passage
from winnow.retrieval import retriever as retriever_module
from winnow.retrieval.config import IndexConfig
from winnow.retrieval.embeddings import to_table, writing_embeddings
from winnow.retrieval.filtering import parse_filter
from winnow.retrieval.manifest import read_manifest, write_manifest
from winnow.retrieval.retriever import load_retriever
from winnow.retrieval.version import write_version
from winnow.retrieval.version_files import check_files

PASSAGES = [
    Passage("p2", "otters sleep holding hands", title="Otter", document_id="d1", metadata={"source": "wiki"}),
    Passage("p1", "a bridge made of stone"),
    Passage("p3", "rain falls on the river all night long", document_id="d1", metadata={"source": "docs"}),
]
BUILT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


class StoredHashEncoder(HashEncoder):
    """Leaves a file where a real encoder leaves many."""

    contract = Contract("mean", True, "", "", 32, 32)

    def save(self, directory):
        directory.mkdir()
        (directory / "model.safetensors").write_text(self.fingerprint)
        return directory


def write_inputs(directory, encoder, passages=PASSAGES):
    corpus = schema.write_dataset(directory / "corpus.parquet", schema.to_table(passages, schema.PASSAGES))
    texts = [f"{passage.title} {passage.text}".strip() for passage in passages]
    with writing_embeddings(directory / "embeddings.parquet", fingerprint="f") as append:
        append(to_table([passage.passage_id for passage in passages], encoder.encode(texts, side="passage")))
    return {"encoder": encoder, "passages": corpus, "embeddings": directory / "embeddings.parquet"}


def publish(directory, encoder, *, passages=PASSAGES, config=IndexConfig(), **provenance):
    (directory / "v").mkdir(parents=True)
    write_version(directory / "v", **write_inputs(directory, encoder, passages), config=config, **provenance)
    return directory / "v"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return publish(tmp_path_factory.mktemp("real"), tiny_encoder(), built_at=BUILT, run_id="run-7")


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A version whose encoder cannot be loaded, for what is refused before that."""
    return publish(tmp_path_factory.mktemp("light"), StoredHashEncoder(), built_at=BUILT)


@pytest.fixture
def copy(light, tmp_path):
    return shutil.copytree(light, tmp_path / "copy")


@pytest.fixture
def no_reader(monkeypatch):
    """Opening any part fails the test: a damaged version must be refused before that."""

    def load(*arguments, **settings):
        pytest.fail(f"{arguments} was read before it was checked")

    for reader in ("VectorIndex", "PassageFile", "DenseEncoder"):
        monkeypatch.setattr(getattr(retriever_module, reader), "load", load)
    monkeypatch.setattr(retriever_module, "_load_lexical", load)


def change_manifest(directory, **fields):
    """A manifest that is whole, and says something else."""
    manifest = read_manifest(directory).model_dump(mode="json") | fields
    write_manifest(directory, type(read_manifest(directory)).model_validate(manifest))


@pytest.mark.parametrize("memory_map", [True, False])
def test_a_passage_is_found_by_its_own_text(published, memory_map):
    retriever = load_retriever(published, device="cpu", memory_map=memory_map)
    texts = [f"{p.title} {p.text}".strip() for p in PASSAGES]

    found = {mode: retriever.search(texts, k=2, mode=mode) for mode in retriever.modes}

    assert retriever.modes == ("dense", "bm25", "hybrid")
    for mode in retriever.modes:
        assert [hits[0].passage_id for hits in found[mode]] == ["p2", "p1", "p3"]
    assert [len(hits) for hits in found["dense"]] == [2, 2, 2]
    first = found["dense"][0][0]
    assert (first.title, first.text, first.document_id, first.metadata) == (
        "Otter",
        "otters sleep holding hands",
        "d1",
        {"source": "wiki"},
    )
    assert first.score == pytest.approx(1.0, abs=1e-3)


def test_info_is_plain_json_and_says_what_the_version_is(published):
    info = load_retriever(published, device="cpu").info()

    assert json.loads(json.dumps(info)) == info
    assert info["version"] == read_manifest(published).version
    assert (info["num_passages"], info["dimension"], info["metric"], info["factory"]) == (
        3,
        32,
        "inner_product",
        "Flat",
    )
    assert info["modes"] == ["dense", "bm25", "hybrid"]
    assert info["filter_fields"] == ["document_id", "passage_id", "source", "title"]
    assert (info["contract"]["pooling"], info["contract"]["query_max_tokens"]) == ("mean", 32)
    assert (info["provenance"]["built_at"], info["provenance"]["run_id"]) == ("2026-01-02T03:04:00Z", "run-7")


def test_equal_inputs_give_equal_versions_whenever_they_are_built(light, tmp_path):
    again = publish(tmp_path, StoredHashEncoder(), run_id="another")

    first, second = read_manifest(light), read_manifest(again)
    assert second.version == first.version
    assert second.files == first.files
    assert second.provenance.built_at > first.provenance.built_at


@pytest.mark.parametrize(
    "change",
    [
        {"passages": [*PASSAGES[:2], Passage("p3", "rain falls", document_id="d1", metadata={"source": "docs"})]},
        {"passages": [*PASSAGES[:2], Passage("p3", PASSAGES[2].text, document_id="d1", metadata={"source": "wiki"})]},
        {"config": IndexConfig(factory="HNSW4")},
        {"config": IndexConfig(bm25=False)},
        {"encoder": StoredHashEncoder(fingerprint="another")},
    ],
)
def test_any_other_content_is_another_version(light, tmp_path, change):
    other = publish(tmp_path, **{"encoder": StoredHashEncoder(), **change})

    assert read_manifest(other).version != read_manifest(light).version


def test_what_an_interrupted_build_left_is_no_part_of_the_version(tmp_path, light):
    for name in ("index/shard-00007.faiss", "bm25/old.npy", "encoder/old.json"):
        path = tmp_path / "v" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left over")
    inputs = write_inputs(tmp_path, StoredHashEncoder())

    write_version(tmp_path / "v", **inputs, config=IndexConfig())

    assert read_manifest(tmp_path / "v").files == read_manifest(light).files
    check_files(tmp_path / "v", read_manifest(tmp_path / "v"))


def test_a_version_is_searched_in_the_language_it_was_built_for(tmp_path):
    houses = [Passage("a", "das alte Haus"), Passage("b", "viele Häuser"), Passage("c", "東京の家")]
    english = publish(tmp_path / "en", tiny_encoder(), passages=houses)
    german = publish(tmp_path / "de", tiny_encoder(), passages=houses, language="german")

    def ask(directory, query):
        retriever = load_retriever(directory, device="cpu")
        found = retriever.search([query], k=3, mode="bm25")[0]
        return retriever.info()["bm25_language"], [hit.passage_id for hit in found]

    assert ask(english, "Haus") == ("english", ["a"])
    assert ask(german, "Hauses") == ("german", ["a", "b"])
    assert ask(german, "das 東京") == ("german", ["c"])
    assert read_manifest(english).version != read_manifest(german).version


def test_without_bm25_the_modes_that_need_it_are_refused(tmp_path):
    retriever = load_retriever(publish(tmp_path, tiny_encoder(), config=IndexConfig(bm25=False)), device="cpu")

    assert not (tmp_path / "v" / "bm25").exists()
    assert retriever.modes == ("dense",)
    assert retriever.info()["bm25_language"] is None
    with pytest.raises(DataError, match=r"cannot be searched by 'hybrid', only by dense; .*`index.bm25: true`"):
        retriever.search(["otter"], k=1, mode="hybrid")


def test_a_flipped_bit_in_any_file_is_refused_before_one_is_read(copy, no_reader):
    places = Random(0)
    names = sorted(read_manifest(copy).files)

    assert {name.split("/")[0] for name in names} == {"encoder", "index", "bm25", "fields.npy", "passages.arrow"}
    for name in names:
        whole = (copy / name).read_bytes()
        content = bytearray(whole)
        content[places.randrange(len(content))] ^= 1 << places.randrange(8)
        (copy / name).write_bytes(content)
        with pytest.raises(IndexMismatchError, match=f"{name} has SHA-256 .*, the manifest says"):
            load_retriever(copy)
        (copy / name).write_bytes(whole)


def test_a_truncated_file_is_refused_by_its_size(copy, no_reader):
    for name in sorted(read_manifest(copy).files):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[:-1])
        with pytest.raises(IndexMismatchError, match=f"{name} has {len(whole) - 1:,} bytes, the manifest says"):
            load_retriever(copy)
        (copy / name).write_bytes(whole)


def test_a_flipped_bit_in_the_manifest_is_refused_wherever_it_is(copy, no_reader):
    whole = (copy / "manifest.json").read_bytes()
    places = Random(1)

    for _ in range(300):
        content = bytearray(whole)
        content[places.randrange(len(content) - 1)] ^= 1 << places.randrange(8)
        (copy / "manifest.json").write_bytes(content)
        with pytest.raises(IndexMismatchError):
            load_retriever(copy)


@pytest.mark.parametrize("name", ["passages.arrow", "index/index.json", "encoder/model.safetensors"])
def test_a_missing_file_is_named(copy, no_reader, name):
    (copy / name).unlink()

    with pytest.raises(IndexMismatchError, match=f"{name} is missing"):
        load_retriever(copy)


@pytest.mark.parametrize(
    "name", ["encoder/adapter_config.json", "encoder/.hidden", "index/shard-00001.faiss", "bm25/corpus.jsonl"]
)
def test_a_file_added_beside_the_others_is_refused(copy, no_reader, name):
    (copy / name).write_text("{}")

    with pytest.raises(IndexMismatchError, match=f"{name} is not in the manifest"):
        load_retriever(copy)


def test_a_link_to_a_folder_is_refused(copy, no_reader, tmp_path):
    (copy / "encoder" / "1_Pooling").symlink_to(tmp_path)

    with pytest.raises(IndexMismatchError, match=r"1_Pooling is not in the manifest"):
        load_retriever(copy)


def test_files_that_changed_places_are_refused(copy, no_reader):
    first, second = copy / "index" / "index.json", copy / "bm25" / "params.index.json"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)

    with pytest.raises(IndexMismatchError, match="the manifest says"):
        load_retriever(copy)


@pytest.mark.parametrize("part", ["encoder", "index", "bm25", "fields.npy", "passages.arrow"])
def test_a_manifest_that_leaves_a_part_out_is_refused(copy, no_reader, part):
    files = read_manifest(copy).model_dump(mode="json")["files"]
    change_manifest(copy, files={name: record for name, record in files.items() if name.split("/")[0] != part})

    with pytest.raises(IndexMismatchError, match=f"the manifest does not list {part}"):
        load_retriever(copy)


@pytest.mark.parametrize("name", ["../secrets.txt", "/etc/passwd", "encoder/../../x"])
def test_a_manifest_that_names_files_elsewhere_is_refused(copy, no_reader, name):
    fields = json.loads((copy / "manifest.json").read_text())
    fields["files"][name] = {"size": 1, "sha256": "0"}
    (copy / "manifest.json").write_text(json.dumps(fields))

    with pytest.raises(IndexMismatchError, match="lies outside the version's directory"):
        load_retriever(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"format": 3}', '{"format": "3"}', "\udcff", "[" * 100_000])
def test_a_manifest_that_cannot_be_read_is_refused(copy, no_reader, content):
    (copy / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(IndexMismatchError, match="is no manifest of this release"):
        load_retriever(copy)


@pytest.mark.parametrize(("number", "release"), [(2, "an older"), (4, "a newer")])
def test_a_manifest_of_another_release_says_so(copy, no_reader, number, release):
    (copy / "manifest.json").write_text(json.dumps({"format": number, "encoder_fingerprint": "f", "files": {}}))

    with pytest.raises(
        IndexMismatchError, match=f"written by {release} release .format {number}.*`winnow index` again"
    ):
        load_retriever(copy)


def test_a_directory_without_a_manifest_is_refused(tmp_path, no_reader):
    with pytest.raises(IndexMismatchError, match=r"no retriever version at .*build one with `winnow index`"):
        load_retriever(tmp_path / "nowhere")


def test_the_encoder_of_another_version_is_refused(published, light, copy, no_reader):
    shutil.rmtree(copy / "encoder")
    shutil.copytree(published / "encoder", copy / "encoder")

    with pytest.raises(IndexMismatchError, match="is damaged"):
        load_retriever(copy)


def test_a_manifest_of_another_encoder_is_refused_though_every_file_is_whole(published, tmp_path):
    copy = shutil.copytree(published, tmp_path / "copy")
    change_manifest(copy, encoder_fingerprint="another")

    with pytest.raises(IndexMismatchError, match=r"encoder fingerprint: '.*', expected 'another'"):
        load_retriever(copy, device="cpu")


def test_a_manifest_with_another_contract_is_refused(published, tmp_path):
    copy = shutil.copytree(published, tmp_path / "copy")
    contract = read_manifest(copy).contract.model_dump()
    change_manifest(copy, contract={**contract, "query_prefix": "query: "})

    with pytest.raises(IndexMismatchError, match=r"another contract .*: query_prefix '', expected 'query: '"):
        load_retriever(copy, device="cpu")


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        (PASSAGES[::-1], "row 0 is 'p2' there and 'p3' here"),
        (PASSAGES[:2], "row 2 is 'p3' there and None here"),
        ([*PASSAGES, Passage("p9", "one more")], "row 3 is None there and 'p9' here"),
    ],
)
def test_embeddings_of_other_passages_are_refused(tmp_path, passages, message):
    inputs = write_inputs(tmp_path, StoredHashEncoder())
    inputs["passages"] = schema.write_dataset(tmp_path / "other.parquet", schema.to_table(passages, schema.PASSAGES))

    with pytest.raises(IndexMismatchError, match=f"embeddings.parquet is not of the passages in .*{message}"):
        write_version(tmp_path, **inputs, config=IndexConfig())


def test_embeddings_of_another_dimension_are_refused(tmp_path):
    inputs = write_inputs(tmp_path, StoredHashEncoder())
    inputs["encoder"] = StoredHashEncoder(dimension=16)

    with pytest.raises(IndexMismatchError, match="vectors of 64 dimensions and the encoder gives 16"):
        write_version(tmp_path, **inputs, config=IndexConfig())


def test_filters_reach_the_index_on_disk(published):
    retriever = load_retriever(published, device="cpu")

    for mode in retriever.modes:
        found = retriever.search(["otters and rain"], k=3, mode=mode, filter=parse_filter({"source": "docs"}))
        assert [hit.passage_id for hit in found[0]] == ["p3"]
