"""Requests as token ids. The tokenizer has a token per character and a mark at the start."""

from types import MappingProxyType, SimpleNamespace

import pytest

from winnow.engines.answers import PromptTooLongError, failed_likelihood, failed_reply
from winnow.engines.prompts import PromptTokenizer
from winnow.engines.protocol import LikelihoodRequest, Message
from winnow.errors import ConfigError


class Characters:
    """Special token 0 at the start; the chat template writes ``role:content|`` per turn and ``assistant:``."""

    chat_template = "there is one"
    all_special_tokens = ()
    added_tokens_decoder = MappingProxyType({})

    def __call__(self, text, *, add_special_tokens):
        if isinstance(text, list):
            return SimpleNamespace(
                input_ids=[self(one, add_special_tokens=add_special_tokens).input_ids for one in text]
            )
        return SimpleNamespace(input_ids=[0] * add_special_tokens + [ord(character) for character in text])

    def apply_chat_template(self, turns, *, add_generation_prompt, return_dict):
        text = "".join(f"{turn['role']}:{turn['content']}|" for turn in turns) + "assistant:" * add_generation_prompt
        return self(text, add_special_tokens=False)


def test_the_boundary_of_a_likelihood_lies_between_its_two_texts():
    prompt = PromptTokenizer(Characters(), 20).likelihood_prompt(LikelihoodRequest("ab", " c"))

    assert prompt.token_ids == [0, ord("a"), ord("b"), ord(" "), ord("c")]
    assert (prompt.num_context_tokens, prompt.num_continuation_tokens) == (3, 2)


def test_a_prompt_may_fill_the_engine_but_for_the_reply():
    tokenizer = PromptTokenizer(Characters(), 30)
    turns = (Message("user", "0123"),)

    assert len(tokenizer.chat_prompt(turns, reply_tokens=10)) == 20 == tokenizer.count_prompt_tokens(turns)
    with pytest.raises(PromptTooLongError, match=r"20 tokens .* up to 11, expected at most 30 .*engine\.max_tokens"):
        tokenizer.chat_prompt(turns, reply_tokens=11)


def test_a_likelihood_leaves_room_for_the_token_that_the_engine_writes():
    tokenizer = PromptTokenizer(Characters(), 6)

    assert len(tokenizer.likelihood_prompt(LikelihoodRequest("ab", "cd")).token_ids) == 5
    with pytest.raises(PromptTooLongError):
        tokenizer.likelihood_prompt(LikelihoodRequest("ab", "cde"))


def test_nothing_has_no_likelihood():
    with pytest.raises(ValueError, match="at least one token each"):
        PromptTokenizer(Characters(), 20).likelihood_prompt(LikelihoodRequest("context", ""))


def test_tokens_are_counted_without_special_ones():
    assert PromptTokenizer(Characters(), 20).count_tokens(["abc", ""]) == [3, 0]
    assert PromptTokenizer(Characters(), 20).count_tokens([]) == []


def test_a_model_without_a_chat_template_is_named_as_the_reason():
    tokenizer = Characters()
    tokenizer.chat_template = None

    with pytest.raises(ConfigError, match=r"no chat template.*engine\.model"):
        PromptTokenizer(tokenizer, 20).count_prompt_tokens((Message("user", "hi"),))


def test_a_failure_is_one_short_line_and_costs_nothing():
    too_long = failed_reply(PromptTooLongError(20, 30, reply_tokens=11))
    broken = failed_likelihood(ValueError("bad\n  regular   expression" + "!" * 1000))

    assert (too_long.finish_reason, broken.finish_reason) == ("too_long", "error")
    assert broken.error.startswith("ValueError: bad regular expression!")
    assert len(broken.error) == 500
    assert (too_long.prompt_tokens, too_long.seconds, broken.prompt_tokens, broken.seconds) == (0, 0, 0, 0)
