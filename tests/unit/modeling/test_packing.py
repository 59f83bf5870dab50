"""Texts packed into one row give the vectors, and the gradients, that they give when padded."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny_models import tiny_encoder

from winnow.modeling.adapting import adapt
from winnow.modeling.config import LoraConfig
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.packing import TESTED_ARCHITECTURES, has_packing
from winnow.modeling.padding import pad

TEXTS = ["how do I copy a file?", "", "x", "a text that is longer than the limit " * 20, "three more words"]


def vectors_and_gradients(encoder, texts=TEXTS):
    vectors = encoder.embed(encoder.tokenize(texts, side="query"), side="query")
    vectors[:, :5].sum().backward()
    return vectors.detach(), {name: p.grad for name, p in encoder.module.named_parameters() if p.grad is not None}


def assert_same(encoder, other, texts=TEXTS):
    assert [encoder.packs, other.packs] == [True, False]
    packed, packed_gradients = vectors_and_gradients(encoder, texts)
    padded, padded_gradients = vectors_and_gradients(other, texts)
    assert packed.numpy() == pytest.approx(padded.numpy(), abs=1e-5)
    assert packed_gradients.keys() == padded_gradients.keys()
    for name, gradient in padded_gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("architecture", "pooling"),
    [("bert", "cls"), ("bert", "last"), *((architecture, "mean") for architecture in sorted(TESTED_ARCHITECTURES))],
)
def test_packed_texts_have_the_vectors_and_gradients_of_padded_ones(architecture, pooling):
    settings = {"architecture": architecture, "pooling": pooling}

    assert_same(tiny_encoder(packing="always", **settings), tiny_encoder(**settings))


def test_a_text_that_names_the_padding_token_counts_positions_as_before():
    texts = ["one [PAD] two three", "four five [PAD]", "six"]

    assert_same(
        tiny_encoder(architecture="roberta", packing="always"), tiny_encoder(architecture="roberta"), texts=texts
    )


def test_adapters_towers_and_recomputed_activations_work_on_packed_texts():
    encoders = [tiny_encoder(packing=packing) for packing in ("always", "never")]
    for encoder in encoders:
        lora = LoraConfig(rank=2)
        adapt(encoder, projection=8, towers="untied", lora=lora, gradient_checkpointing=True, seed=1)

    assert_same(*encoders)


def test_dropout_on_attention_weights_makes_it_pad_because_packed_attention_has_none():
    encoder = tiny_encoder(packing="always")

    encoder.module.train()
    with_dropout = encoder.packs
    encoder.module.backbone.config.attention_probs_dropout_prob = 0.0

    assert [with_dropout, encoder.packs] == [False, True]


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_backbone_that_packs_still_takes_padded_texts(architecture):
    packing, plain = tiny_encoder(architecture=architecture, packing="always"), tiny_encoder(architecture=architecture)
    rows = plain.tokenize(TEXTS, side="query")

    padded = packing.module(pad(rows, pad_token_id=0, device=packing.device), side="query")

    assert torch.equal(padded, plain.embed(rows, side="query"))


def test_texts_of_a_packing_encoder_are_encoded_in_budgets_of_real_tokens():
    """Texts of 32, 18, 16, 3 and 2 tokens are 71; padded, the first two alone are 64."""
    encoder, plain = tiny_encoder(packing="always"), tiny_encoder()

    assert [batches_of(encoder, 71), batches_of(plain, 71)] == [[5], [2, 3]]
    assert [batches_of(encoder, 70), batches_of(plain, 70)] == [[4, 1], [2, 3]]
    assert encoder.encode(TEXTS, side="query") == pytest.approx(plain.encode(TEXTS, side="query"), abs=0.02)


def batches_of(encoder, max_tokens):
    """How many texts the encoder takes at a time."""
    sizes = []
    limited = DenseEncoder(
        encoder.module,
        encoder.tokenizer,
        encoder.contract,
        batch_tokens=max_tokens,
        packing="always" if encoder.packs else "never",
    )
    hook = encoder.module.register_forward_hook(lambda _, __, vectors_ND: sizes.append(len(vectors_ND)))
    limited.encode(TEXTS, side="query")
    hook.remove()
    return sizes


def test_on_a_cpu_texts_are_padded_unless_a_test_asks_otherwise():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not tiny_encoder().packs


def test_a_window_over_the_text_is_not_packed():
    encoder = tiny_encoder(architecture="qwen3")
    encoder.module.backbone.config.sliding_window = 16

    assert not has_packing(encoder.module.backbone)


def test_what_is_saved_says_nothing_of_packing(tmp_path):
    encoder = tiny_encoder(packing="always")

    theirs = SentenceTransformer(str(encoder.save(tmp_path)), device="cpu")

    with torch.no_grad():
        ours = encoder.embed(encoder.tokenize(TEXTS, side="query"), side="query")
    assert theirs.encode_query(TEXTS) == pytest.approx(ours.numpy(), abs=1e-5)
