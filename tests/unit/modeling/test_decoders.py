"""Decoders as encoders: causal, the last token's vector, an end token that the tokenizer adds, no padding token."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny_models import letters, tiny_encoder
from tokenizers.processors import Sequence

from winnow.modeling.adapting import adapt
from winnow.modeling.config import EncoderConfig, LoraConfig
from winnow.modeling.encoder import DenseEncoder
from winnow.modeling.tokenizing import TextTokenizer

TEXTS = ["how do I copy a file?", "", "x", "a text that is longer than the limit " * 20]
EXACT = EncoderConfig(model="unused", precision="float32")
END = 3


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_decoder_gives_equal_vectors_in_training_in_serving_and_in_sentence_transformers(
    tmp_path, architecture, pooling
):
    encoder = tiny_encoder(architecture=architecture, pooling=pooling, query_prefix="query: ")
    lora = LoraConfig(rank=2, targets=("q_proj", "v_proj"))
    adapt(encoder, projection=8, towers="tied", lora=lora, gradient_checkpointing=True, seed=1)
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.add_(0.1 if parameter.requires_grad else 0)
        embedded = encoder.embed(encoder.tokenize(TEXTS, side="query"), side="query").numpy()

    ours = DenseEncoder.load(encoder.save(tmp_path), EXACT, device="cpu")
    theirs = SentenceTransformer(str(tmp_path), device="cpu")

    assert ours.encode(TEXTS, side="query") == pytest.approx(embedded, abs=1e-5)
    assert theirs.encode_query(TEXTS) == pytest.approx(embedded, abs=1e-5)
    assert ours.fingerprint == encoder.fingerprint


def test_padding_on_the_right_changes_no_vector():
    encoder = tiny_encoder(architecture="llama", pooling="last")
    short, long = encoder.tokenize(["one two", "one two three four five six"], side="query")

    with torch.no_grad():
        alone, beside = encoder.embed([short], side="query"), encoder.embed([long, short], side="query")

    assert beside[1].numpy() == pytest.approx(alone[0].numpy(), abs=1e-6)


def test_the_end_token_stays_at_the_end_of_a_text_that_is_cut():
    encoder = tiny_encoder(architecture="llama", pooling="last", query_max_tokens=6)

    ids = encoder.tokenize(["x", "one two three four five six seven eight"], side="query")

    assert [row[-1] for row in ids] == [END, END]
    assert [len(row) for row in ids] == [2, 6]


def test_a_text_without_any_token_has_a_vector():
    decoder, tokenizer = tiny_encoder(architecture="llama", pooling="last"), letters(ends_only=True)
    tokenizer.backend_tokenizer.post_processor = Sequence([])
    encoder = DenseEncoder(decoder.module, TextTokenizer(tokenizer, decoder.contract), decoder.contract)

    embeddings = encoder.encode(["", "x"], side="query")

    assert encoder.tokenize([""], side="query") == [[END]]
    assert np.isfinite(embeddings).all()


def test_a_decoder_reads_from_left_to_right():
    encoder = tiny_encoder(architecture="llama", pooling="cls")

    with torch.no_grad():
        first, second = encoder.embed([[10, 11, 12, END], [10, 20, END]], side="query")

    assert first.numpy() == pytest.approx(second.numpy(), abs=1e-6)
