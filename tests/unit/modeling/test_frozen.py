"""The frozen encoder against the encoder it was made from."""

import copy
import logging

import numpy as np
import pytest
import torch
from tiny_models import tiny_encoder

from winnow.modeling.adapting import adapt
from winnow.modeling.config import EncoderConfig
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.frozen import freeze_encoder
from winnow.modeling.graph import GraphEncoder

TEXTS = ["how do I copy a file?", "", "Zoë's naïve café 東京", "longer than the limit " * 60, "x"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [("bert", "mean"), ("bert", "last"), ("xlm-roberta", "cls"), ("qwen3", "last")],
)
def test_vectors_are_those_of_the_encoder(tmp_path, architecture, pooling, precision):
    made = tiny_encoder(
        architecture=architecture, pooling=pooling, normalise=False, query_prefix="q: ", query_max_tokens=12
    )
    made.save(tmp_path)
    encoder = DenseEncoder.load(tmp_path, EncoderConfig(model="x", precision=precision), device="cpu")

    frozen = freeze_encoder(encoder)

    assert isinstance(frozen, GraphEncoder)
    # One text at a time, because half precision rounds otherwise beside other neighbours.
    for text in TEXTS:
        for side in ("query", "passage"):
            expected = encoder.encode([text], side=side)
            np.testing.assert_allclose(frozen.encode([text], side=side), expected, atol=1e-5 * np.abs(expected).max())


def test_towers_of_their_own_and_a_projection_are_frozen_too():
    encoder = tiny_encoder()
    adapt(encoder, projection=16, towers="untied", lora=None, gradient_checkpointing=False, seed=3)
    with torch.no_grad():
        encoder.module.passage_backbone.embeddings.word_embeddings.weight.mul_(-1)
    encoder.module.eval()

    frozen = freeze_encoder(encoder)

    assert isinstance(frozen, GraphEncoder)
    assert (frozen.fingerprint, frozen.dimension) == (encoder.fingerprint, 16)
    queries, passages = (frozen.encode(TEXTS, side=side) for side in ("query", "passage"))
    assert np.abs(queries - encoder.encode(TEXTS, side="query")).max() < 0.01
    assert np.abs(passages - encoder.encode(TEXTS, side="passage")).max() < 0.01
    assert np.abs(queries - passages).max() > 0.1


def test_a_version_frozen_later_leaves_the_one_before_as_it_was():
    first, second = tiny_encoder(), tiny_encoder()
    with torch.no_grad():
        second.module.backbone.embeddings.word_embeddings.weight.mul_(-1)
    frozen = freeze_encoder(first)
    before = frozen.encode(TEXTS, side="query")

    other = freeze_encoder(second)

    assert isinstance(frozen, GraphEncoder)
    assert isinstance(other, GraphEncoder)
    assert (frozen.encode(TEXTS, side="query") == before).all()
    assert np.abs(other.encode(TEXTS, side="query") - before).max() > 0.1


def test_tokens_give_the_vectors_of_their_texts_in_order():
    frozen = freeze_encoder(tiny_encoder())
    texts = [f"number {number} " * (number % 7 + 1) for number in range(40)]

    backwards = frozen.encode_tokens(frozen.tokenize(texts, side="query")[::-1], side="query")

    assert isinstance(frozen, GraphEncoder)
    forwards = frozen.encode(texts, side="query")
    assert np.abs(backwards[::-1] - forwards).max() < 0.01
    assert frozen.encode([], side="query").shape == (0, frozen.dimension)


def refuse(*inputs, **settings):
    raise RuntimeError("aten::strange is unknown")


def trace_other_weights(module, inputs, **settings):
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(1.5)
        traced = TRACE(module, inputs, **settings)
        # torch shares them, so what was traced is to keep its own.
        copied = copy.deepcopy(traced)
        for weight in module.parameters():
            weight.div_(1.5)
    return copied


TRACE = torch.jit.trace


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(refuse, "cannot be traced (RuntimeError: aten::strange is unknown)"), (trace_other_weights, "% off")],
)
def test_an_encoder_whose_graph_is_wrong_serves_as_it_is_and_says_so(monkeypatch, caplog, wrong, told):
    encoder = tiny_encoder()
    monkeypatch.setattr(torch.jit, "trace", wrong)

    with caplog.at_level(logging.WARNING):
        kept = freeze_encoder(encoder)

    assert kept is encoder
    assert "the encoder is served module by module, which is slower" in caplog.text
    assert told in caplog.text
