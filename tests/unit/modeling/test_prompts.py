"""Which of a model's prompts goes before a query and which before a passage, by the names that models use."""

import json

import pytest
from pydantic import ValidationError
from tiny_models import tiny_encoder

from winnow.errors import ConfigError
from winnow.modeling.config import EncoderConfig
from winnow.modeling.contract import read_contract
from winnow.modeling.encoder import build_encoder
from winnow.modeling.prompts import read_prompts


def prefixes(prompts, default=None, **overrides):
    found = read_prompts(
        {"prompts": prompts, "default_prompt_name": default}, EncoderConfig(model="x", **overrides), where="the model"
    )
    return found["query_prefix"], found["passage_prefix"]


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({}, None, ("", "")),
        (None, None, ("", "")),
        ({"query": "q: ", "document": ""}, None, ("q: ", "")),
        ({"query": "q: ", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"query": "q: ", "document": "", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"query": "q: ", "document": "d: ", "passage": "p: "}, None, ("q: ", "d: ")),
        ({"query": "", "document": ""}, None, ("", "")),
        ({"document": "d: "}, None, ("", "d: ")),
        ({"query": "q: ", "s2p_query": "other", "sts": "x"}, None, ("q: ", "")),
        ({"web_search_query": "w: ", "sts_query": "s", "summarization_query": "z"}, None, ("w: ", "")),
        ({"search_query": "q: ", "search_document": "d: ", "clustering": "c"}, None, ("q: ", "d: ")),
        ({"retrieval.query": "q: ", "retrieval.passage": "p: ", "text-matching": ""}, None, ("q: ", "p: ")),
        ({"Retrieval-query": "q: ", "Retrieval-document": "d: ", "STS": "s"}, None, ("q: ", "d: ")),
        ({"s2p_query": "q: ", "s2s_query": "s"}, None, ("q: ", "")),
        ({"s2p_query": "q: ", "search_query": "r: "}, "search_query", ("r: ", "")),
        ({"general": "g: ", "sts": "s"}, "general", ("g: ", "g: ")),
        ({"general": "", "sts": ""}, None, ("", "")),
    ],
)
def test_the_prompt_that_is_meant_is_taken(prompts, default, expected):
    assert prefixes(prompts, default) == expected


@pytest.mark.parametrize(
    "prompts", [{"s2p_query": "q: ", "search_query": "r: "}, {"general": "g: ", "sts": "s"}, {"classification": "c"}]
)
def test_where_several_could_be_meant_the_error_lists_them_and_the_way_out(prompts):
    with pytest.raises(ConfigError, match=r"before a query; name one as encoder\.query_prompt.*It has") as caught:
        prefixes(prompts)

    assert all(f"{name} ({text!r})" in str(caught.value) for name, text in prompts.items())


def test_the_user_names_one_or_gives_the_text_itself():
    prompts = {"s2p_query": "q: ", "s2s_query": "s: ", "sts": "x: "}

    assert prefixes(prompts, query_prompt="s2s_query", passage_prompt="sts") == ("s: ", "x: ")
    assert prefixes(prompts, query_prefix="mine: ") == ("mine: ", "")
    assert prefixes({"sts": "x: "}, query_prefix="", passage_prefix="") == ("", "")


def test_a_name_that_the_model_lacks_is_refused_with_those_it_has():
    with pytest.raises(ConfigError, match=r"encoder\.passage_prompt is 'nope', but the model has query \('q: '\)"):
        prefixes({"query": "q: "}, passage_prompt="nope")
    with pytest.raises(ConfigError, match="has no prompts"):
        prefixes({}, query_prompt="query")


def test_a_prefix_and_a_prompt_of_one_side_are_too_much():
    with pytest.raises(ValidationError, match=r"query_prefix and encoder\.query_prompt are both given"):
        EncoderConfig(model="x", query_prefix="", query_prompt="query")


def test_a_named_prompt_is_before_the_query_and_stays_with_what_is_saved(tmp_path):
    directory = tiny_encoder().save(tmp_path / "base")
    path = directory / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": {"one": "a b ", "two": "c d "}}))
    config = EncoderConfig(model=str(directory), query_prompt="two", passage_prefix="", precision="float32")

    encoder = build_encoder(config, device="cpu")
    saved = encoder.save(tmp_path / "saved")

    plain = tiny_encoder()
    assert encoder.tokenize(["x"], side="query") == plain.tokenize(["c d x"], side="query")
    assert encoder.tokenize(["x"], side="passage") == plain.tokenize(["x"], side="passage")
    assert read_contract(saved, config.at(saved)) == encoder.contract
