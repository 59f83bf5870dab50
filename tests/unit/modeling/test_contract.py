"""The contract of an encoder directory: read as it was written, and never guessed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import tiny_encoder

from winnow.errors import ConfigError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.contract import Contract, read_contract, write_contract
from winnow.modeling.encoder import build_encoder
from winnow.modeling.layout import write_layout

CONTRACT = Contract(
    pooling="last",
    normalise=False,
    query_prefix="query: ",
    passage_prefix="passage: ",
    query_max_tokens=64,
    passage_max_tokens=200,
)


def write(directory, contract=CONTRACT, *, is_untied=False):
    layout = write_layout(directory, is_untied=is_untied, has_projection=False, is_normalised=contract.normalise)
    write_contract(layout, contract, hidden_size=32)
    return layout


@pytest.mark.parametrize("is_untied", [False, True])
def test_reading_is_the_inverse_of_writing(tmp_path, is_untied):
    write(tmp_path, is_untied=is_untied)

    assert read_contract(tmp_path) == CONTRACT


def test_configuration_replaces_what_the_directory_says(tmp_path):
    write(tmp_path)

    read = read_contract(tmp_path, EncoderConfig(model="x", query_prefix="", normalise=True, passage_max_tokens=128))

    assert read == Contract("last", True, "", "passage: ", 64, 128)


def test_a_plain_directory_must_be_told_pooling_and_normalisation(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))

    with pytest.raises(ConfigError, match="does not say its pooling, normalise; set them under `encoder:`"):
        read_contract(tmp_path)
    told = read_contract(tmp_path, EncoderConfig(model="x", pooling="cls", normalise=True))

    assert told == Contract("cls", True, "", "", 512, 512)


def test_the_newer_pooling_notation_is_read(tmp_path):
    write(tmp_path)
    config = {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))

    assert read_contract(tmp_path).pooling == "mean"


@pytest.mark.parametrize("flag", ["pooling_mode_max_tokens", "pooling_mode_weightedmean_tokens"])
def test_a_pooling_that_we_do_not_compute_is_refused(tmp_path, flag):
    write(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({flag: True}))

    with pytest.raises(ConfigError, match=f"asks for pooling .*{flag}.*expected one of cls, mean, last"):
        read_contract(tmp_path)


def test_a_pooling_that_leaves_out_the_prompt_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean", "include_prompt": False}))

    with pytest.raises(ConfigError, match="leaves the prompt out of the pooling"):
        read_contract(tmp_path)


@pytest.mark.parametrize(
    ("config", "holds"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, 8192),
        ({"model_type": "camembert", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 512, "pad_token_id": 0}, 511),
    ],
)
def test_a_table_of_positions_limits_tokens_whatever_the_directory_says(tmp_path, config, holds):
    write(tmp_path, replace(CONTRACT, query_max_tokens=9999, passage_max_tokens=9999))
    (tmp_path / "config.json").write_text(json.dumps(config))

    read = read_contract(tmp_path)

    assert (read.query_max_tokens, read.passage_max_tokens) == (holds, holds)
    assert read_contract(tmp_path, EncoderConfig(model="x", passage_max_tokens=holds)).passage_max_tokens == holds
    with pytest.raises(ConfigError, match=f"encoder.passage_max_tokens is {holds + 1}, but .* for {holds} tokens"):
        read_contract(tmp_path, EncoderConfig(model="x", passage_max_tokens=holds + 1))


def test_positions_that_are_computed_limit_nothing(tmp_path):
    write(tmp_path, replace(CONTRACT, passage_max_tokens=9999))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "max_position_embeddings": 512}))

    assert read_contract(tmp_path).passage_max_tokens == 9999


@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta", "bert"])
def test_the_longest_text_that_is_let_through_can_be_encoded(tmp_path, architecture):
    """The tiny models have tables of 512, of which the first place is the padding's in RoBERTa."""
    directory = tiny_encoder(architecture=architecture, passage_max_tokens=600).save(tmp_path)

    encoder = build_encoder(EncoderConfig(model=str(directory), precision="float32"), device="cpu")

    (row,) = encoder.tokenize(["word " * 400], side="passage")
    assert len(row) == (512 if architecture == "bert" else 511)
    assert np.isfinite(encoder.encode_tokens([row], side="passage")).all()
