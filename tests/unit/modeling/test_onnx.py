"""The encoder on ONNX Runtime against torch in float32."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_encoder

from winnow.errors import ConfigError
from winnow.modeling import onnx_export, onnx_runtime
from winnow.modeling.adapting import adapt
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.onnx_cache import read_or_export
from winnow.modeling.onnx_runtime import load_runtime

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TEXTS = ["how do I copy a file?", "", "Zoë's naïve café 東京", "longer than the limit " * 60, "x"]


def in_float32(directory):
    return DenseEncoder.load(directory, EncoderConfig(model="x", precision="float32"), device="cpu")


def furthest(vectors, exact):
    """The largest distance of two vectors of a text, relative to the exact one's length."""
    return (np.linalg.norm(vectors - exact, axis=1) / np.linalg.norm(exact, axis=1)).max()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny_encoder().save(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def loaded(directory):
    return DenseEncoder.load(directory, device="cpu")


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [("bert", "mean"), ("bert", "last"), ("xlm-roberta", "cls"), ("qwen3", "last")],
)
def test_vectors_are_those_of_torch(tmp_path, architecture, pooling):
    encoder = tiny_encoder(
        architecture=architecture, pooling=pooling, normalise=False, query_prefix="q: ", query_max_tokens=12
    )
    exact = in_float32(encoder.save(tmp_path / "encoder"))

    exported = load_runtime(loaded(tmp_path / "encoder"), "onnx", threads=1, cache=tmp_path / "cache")

    vectors = exported.encode(TEXTS, side="query")
    assert vectors.dtype == np.float32
    assert furthest(vectors, exact.encode(TEXTS, side="query")) < 1e-4
    assert furthest(exported.encode(TEXTS, side="passage"), exact.encode(TEXTS, side="passage")) < 1e-4
    assert (exported.fingerprint, exported.dimension) == (exact.fingerprint, 32)


def test_towers_of_their_own_and_a_projection_are_exported_too(tmp_path):
    encoder = tiny_encoder()
    adapt(encoder, projection=16, towers="untied", lora=None, gradient_checkpointing=False, seed=3)
    with torch.no_grad():
        encoder.module.passage_backbone.embeddings.word_embeddings.weight.mul_(-1)
    exact = in_float32(encoder.save(tmp_path / "encoder"))

    exported = load_runtime(loaded(tmp_path / "encoder"), "onnx", threads=1, cache=tmp_path / "cache")

    queries, passages = (exported.encode(TEXTS, side=side) for side in ("query", "passage"))
    assert queries.shape == (5, 16)
    assert np.abs(queries - exact.encode(TEXTS, side="query")).max() < 1e-4
    assert np.abs(passages - exact.encode(TEXTS, side="passage")).max() < 1e-4
    assert np.abs(queries - passages).max() > 0.1


def test_8_bit_vectors_are_near_and_depend_on_no_neighbour(directory, cache):
    exact = in_float32(directory).encode(TEXTS, side="query")

    exported = load_runtime(loaded(directory), "onnx-int8", threads=1, cache=cache)

    together = exported.encode(TEXTS, side="query")
    assert 0 < furthest(together, exact) < 0.2
    assert (together == np.concatenate([exported.encode([text], side="query") for text in TEXTS])).all()


def test_tokens_give_the_vectors_of_their_texts_in_order(directory, cache):
    exported = load_runtime(loaded(directory), "onnx", threads=1, cache=cache)
    texts = [f"number {number} " * (number % 7 + 1) for number in range(40)]

    backwards = exported.encode_tokens(exported.tokenize(texts, side="query")[::-1], side="query")

    assert exported.encode(texts, side="query") == pytest.approx(backwards[::-1], abs=1e-5)
    assert exported.encode([], side="query").shape == (0, 32)


def test_an_exported_encoder_is_used_again(directory, cache, monkeypatch):
    first = load_runtime(loaded(directory), "onnx", threads=1, cache=cache)
    monkeypatch.setattr(torch.onnx, "export", None)

    second = load_runtime(loaded(directory), "onnx", threads=1, cache=cache)

    assert (first.encode(TEXTS, side="query") == second.encode(TEXTS, side="query")).all()


class Export:
    """Writes a model of a few bytes, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self, into):
        self.times += 1
        (into / "query.onnx").write_bytes(b"model " * 50)


def flip_a_bit(made):
    content = bytearray((made / "query.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (made / "query.onnx").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda made: (made / "query.onnx").write_bytes(b"model"),
        lambda made: (made / "query.onnx").unlink(),
        lambda made: (made / "hashes.json").unlink(),
        lambda made: (made / "hashes.json").write_text("[1"),
        lambda made: (made / "hashes.json").write_text("{}"),
        lambda made: (made / "hashes.json").write_bytes(b"\xff"),
        lambda made: (made / "passage.onnx").write_text("foreign"),
    ],
    ids=["bit", "length", "model", "no hashes", "json", "empty", "utf-8", "foreign"],
)
def test_a_damaged_export_is_made_anew(tmp_path, damage):
    export, made = Export(), tmp_path / "made"
    for _ in range(2):
        read_or_export(made, export)
    assert export.times == 1
    damage(made)

    models = read_or_export(made, export)

    assert models == {"query.onnx": b"model " * 50}
    assert export.times == 2
    assert sorted(path.name for path in made.iterdir()) == ["hashes.json", "query.onnx"]


def export_fixed_sizes(real):
    return lambda *inputs, dynamic_axes, **settings: real(*inputs, **settings)


def export_other_weights(real):
    def export(graph, *inputs, **settings):
        weights = list(graph.parameters())
        for weight in weights:
            weight.mul_(1.01)
        real(graph, *inputs, **settings)
        for weight in weights:
            weight.div_(1.01)

    return export


def export_nothing(real):
    def export(*inputs, **settings):
        raise torch.onnx.errors.OnnxExporterError("aten::strange is unknown")

    return export


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (export_fixed_sizes, "cannot be exported to ONNX"),
        (export_nothing, "cannot be exported to ONNX.*aten::strange is unknown"),
        (export_other_weights, "gives vectors that are .*% off"),
    ],
)
def test_an_export_that_goes_wrong_is_refused_and_not_kept(directory, tmp_path, monkeypatch, wrong, told):
    monkeypatch.setattr(torch.onnx, "export", wrong(torch.onnx.export))

    with pytest.raises(ConfigError, match=f"a BertModel.*{told}") as refused:
        load_runtime(loaded(directory), "onnx", threads=1, cache=tmp_path)

    assert "set serve.encoder_runtime: torch" in str(refused.value)
    assert list(tmp_path.glob("[!.]*")) == list(tmp_path.glob("*.part")) == []


def test_an_encoder_beyond_the_size_of_an_onnx_file_is_refused(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "_LARGEST_BYTES", 1000)

    with pytest.raises(ConfigError, match=r"an ONNX file holds 2 GiB; set serve.encoder_runtime: torch"):
        load_runtime(loaded(directory), "onnx", threads=1, cache=tmp_path)


def test_a_missing_library_is_named_with_the_command_that_brings_it(directory, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"onnx-int8 needs onnxruntime and onnx; .*pip install onnxruntime onnx"):
        load_runtime(loaded(directory), "onnx-int8", threads=1, cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_named(directory, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match=r"exported encoders cannot be kept in .*file"):
        load_runtime(loaded(directory), "onnx", threads=1, cache=tmp_path / "file")
