"""Every cache is found again by a key. One test per cache: the key changes with each thing that its content depends on.

The table of caches is in docs/architecture.md; what names a judge is tested in judging/test_identity.py, what a
resumed training run compares in training/test_checkpoint.py and distributed/test_torchrun.py.
"""

import json
import shutil
from pathlib import Path

import pytest
from tiny_models import tiny_encoder

from winnow import schema
from winnow.cluster import encoding
from winnow.cluster.encoding import embeddings_path
from winnow.config import build_config
from winnow.engines import checkpoint
from winnow.engines.checkpoint import converted_directory
from winnow.engines.config import VllmConfig
from winnow.files import read_json
from winnow.modeling import onnx_runtime
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import build_encoder
from winnow.modeling.onnx_runtime import export_name
from winnow.records import LabelledPassage, Passage, TrainingExample
from winnow.steps import ingest, stage
from winnow.steps.config import RunConfig
from winnow.tracking.fetching import download_name
from winnow.training import texts
from winnow.training.texts import token_key


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_encoder().save(tmp_path_factory.mktemp("base") / "encoder")


@pytest.fixture
def model(base, tmp_path):
    return shutil.copytree(base, tmp_path / "encoder")


def add_to(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def retrain(model: Path) -> None:
    """Other weights under the same names, as a second training leaves them."""
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "model.safetensors", "README.md"])
def test_tokens_depend_on_the_files_of_the_model(model, name):
    config = EncoderConfig(model=str(model))
    (model / "README.md").write_text("# A model")
    before = token_key(config, "texts")

    add_to(model / name)

    assert (token_key(config, "texts") == before) == (name == "README.md")


def test_tokens_depend_on_texts_settings_and_our_own_code(model, monkeypatch):
    config = EncoderConfig(model=str(model))
    keys = [
        token_key(config, "examples", "passages"),
        token_key(config, "examples", "other passages"),
        token_key(config, "other examples", "passages"),
        token_key(EncoderConfig(model=str(model), query_prefix="query: "), "examples", "passages"),
        token_key(EncoderConfig(model=str(model), passage_max_tokens=8), "examples", "passages"),
    ]
    monkeypatch.setattr(texts, "ENCODING_VERSION", "next")
    keys.append(token_key(config, "examples", "passages"))

    assert len(set(keys)) == 6
    assert token_key(EncoderConfig(model=str(model), batch_tokens=7), "examples", "passages") == keys[-1]


PASSAGES = [Passage("p1", "one"), Passage("p2", "two")]
CHANGED = [Passage("p1", "one"), Passage("p2", "another")]


def test_embeddings_depend_on_encoder_passages_precision_and_our_own_code(model, tmp_path, monkeypatch):
    paths = {name: tmp_path / f"{name}.parquet" for name in ("passages", "changed")}
    for path, rows in zip(paths.values(), (PASSAGES, CHANGED), strict=True):
        schema.write_dataset(path, schema.to_table(rows, schema.PASSAGES))

    def where(corpus="passages", **settings):
        config = EncoderConfig(**{"model": str(model), "precision": "float32", **settings})
        return embeddings_path(config, paths[corpus], output=tmp_path)

    found = [where(), where("changed"), where(precision="bfloat16"), where(passage_prefix="passage: ")]
    retrain(model)
    found.append(where())
    monkeypatch.setattr(encoding, "ENCODING_VERSION", "next")
    found.append(where())

    assert len(set(found)) == 6
    assert where(batch_tokens=7) == found[-1]


def test_an_exported_encoder_depends_on_its_content_the_runtime_and_our_own_code(model, monkeypatch):
    config = EncoderConfig(model=str(model))
    fingerprint = build_encoder(config, device="cpu").fingerprint
    retrain(model)
    names = [
        export_name(fingerprint, "onnx"),
        export_name(fingerprint, "onnx-int8"),
        export_name(build_encoder(config, device="cpu").fingerprint, "onnx"),
        export_name(build_encoder(EncoderConfig(model=str(model), pooling="cls")).fingerprint, "onnx"),
    ]
    monkeypatch.setattr(onnx_runtime, "_FORMAT", "next")
    names.append(export_name(fingerprint, "onnx"))

    assert len(set(names)) == 5


def test_a_converted_model_depends_on_the_file_and_on_how_we_convert(tmp_path, monkeypatch):
    source = tmp_path / "judge.gguf"
    config = VllmConfig(kind="vllm", model=str(source))
    places = []
    for content in ("GGUF one", "GGUF two"):
        source.write_text(content)
        places.append(converted_directory(config, tmp_path))
    monkeypatch.setattr(checkpoint, "CONVERSION", "next")
    places.append(converted_directory(config, tmp_path))

    assert len(set(places)) == 3
    assert all(place.name.startswith("judge-") for place in places)


def test_a_download_depends_on_the_registry_and_on_where_it_keeps_the_version():
    names = [
        download_name("winnow", "7", uri="sqlite:///a.db", source="/a/7"),
        download_name("other", "7", uri="sqlite:///a.db", source="/a/7"),
        download_name("winnow", "8", uri="sqlite:///a.db", source="/a/7"),
        download_name("winnow", "7", uri="sqlite:///b.db", source="/a/7"),
        download_name("winnow", "7", uri="sqlite:///a.db", source="/b/7"),
    ]

    assert len(set(names)) == 5


FILES = {
    "corpus.jsonl": [{"_id": "p1", "text": "one"}, {"_id": "p2", "text": "two"}],
    "train.jsonl": [{"_id": "q1", "text": "which?"}],
    "dev.jsonl": [{"_id": "d1", "text": "who?"}],
    "test.jsonl": [{"_id": "t1", "text": "when?"}],
    "other.jsonl": [{"_id": "p1", "text": "one"}],
}
QRELS = {"train.tsv": "q1\tp1", "dev.tsv": "d1\tp1", "test.tsv": "t1\tp1"}


@pytest.fixture
def config(tmp_path, model):
    for name, rows in FILES.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, row in QRELS.items():
        (tmp_path / name).write_text(f"query-id\tcorpus-id\tscore\n{row}\t1\n")
    splits = {name: {"queries": f"{name}.jsonl", "qrels": f"{name}.tsv"} for name in ("train", "dev", "test")}
    settings = {
        "output": str(tmp_path / "runs"),
        "data": {
            "corpus": {"path": "corpus.jsonl"},
            "train": splits["train"],
            "dev": splits["dev"],
            "test": [{"name": "own", **splits["test"], "corpus": {"path": "other.jsonl"}}],
        },
        "encoder": {"model": str(model)},
        "annotate": {"engine": {"kind": "vllm", "model": "./llm"}},
        "train": {"loss": {"temperature": 0.05}, "dev": {}},
    }
    return build_config(RunConfig, settings, base=tmp_path)


@pytest.mark.parametrize("name", [*FILES, *QRELS])
def test_what_was_ingested_depends_on_every_file_that_is_read(config, tmp_path, name):
    before = ingest.plan(config).fingerprint

    add_to(tmp_path / name)

    assert ingest.plan(config).fingerprint != before


def training_tokens(config, tmp_path):
    example = TrainingExample("q1", "which?", (LabelledPassage("p1", "llm"),), (LabelledPassage("p2", "llm"),))
    path = tmp_path / "examples.parquet"
    schema.write_dataset(path, schema.to_table([example], schema.TRAINING_EXAMPLES))
    return stage._tokenise(config, path)


def dev_tokens(config, tmp_path):
    return Path(read_json(stage.dev_questions(config, tmp_path))["tokens"])


@pytest.mark.parametrize(
    ("tokens", "changes"),
    [
        (training_tokens, {"corpus.jsonl": "two", "dev.jsonl": None, "tokenizer.json": "two"}),
        (dev_tokens, {"corpus.jsonl": "two", "dev.jsonl": "who?", "train.jsonl": None}),
    ],
    ids=["training", "dev"],
)
def test_a_run_finds_its_tokens_by_the_words_and_not_by_the_ids(config, tmp_path, model, tokens, changes):
    first = tokens(config, tmp_path)
    for name, word in changes.items():
        path = model / name if name == "tokenizer.json" else tmp_path / name
        path.write_text(path.read_text().replace(word or "?", "somebody"))
        if name == "tokenizer.json":
            add_to(path)
        found = tokens(config, tmp_path)
        assert (found == first) == (word is None), name
        first = found
