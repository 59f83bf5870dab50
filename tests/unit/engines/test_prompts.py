"""Requests as token ids and replies as text: a real tokenizer with a token per character, and real templates."""

import chat_templates
import pytest

from winnow.engines.answers import PromptTooLongError, failed_likelihood, failed_reply
from winnow.engines.prompts import PromptTokenizer
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message
from winnow.errors import ConfigError

MARKS = ("<think>", "</think>")
TURNS = (Message("system", "be brief"), Message("user", "why?"))


def tokenizer_of(template, *, max_tokens=500, marks=MARKS, special=(), **settings):
    return PromptTokenizer(chat_templates.characters(template, marks=marks, special=special), max_tokens, **settings)


def rendered(template, *, thinks=False, turns=TURNS, **settings):
    return tokenizer_of(template, **settings).render(turns, thinks=thinks)


def read(template, reply, *, thinks=True, **settings):
    tokenizer = tokenizer_of(template, **settings)
    prompt = tokenizer.chat_prompt(ChatRequest(TURNS, 8, max_reasoning_tokens=8 * thinks))
    return tokenizer.read_reply(prompt, tokenizer.token_ids(reply))


def test_the_boundary_of_a_likelihood_lies_between_its_two_texts():
    tokenizer = tokenizer_of(None, max_tokens=20)

    prompt = tokenizer.likelihood_prompt(LikelihoodRequest("ab", " c"))

    start, *rest = prompt.token_ids
    assert start == 1
    assert rest == tokenizer.token_ids("ab c")
    assert (prompt.num_context_tokens, prompt.num_continuation_tokens) == (3, 2)


def test_a_prompt_may_fill_the_engine_but_for_all_of_its_reply():
    tokenizer = tokenizer_of(chat_templates.PLAIN, max_tokens=40)
    turns = (Message("user", "0123"),)
    # <user> and <assistant> have 6 and 11 characters, the end of a turn is one token.
    length = 6 + 4 + 1 + 11

    assert len(tokenizer.chat_prompt(ChatRequest(turns, 18)).token_ids) == length
    assert tokenizer.count_prompt_tokens(turns) == length
    for request in (ChatRequest(turns, 19), ChatRequest(turns, 8, max_reasoning_tokens=11)):
        with pytest.raises(PromptTooLongError, match=r"22 tokens .* up to 19, expected at most 40 .*max_tokens"):
            tokenizer.chat_prompt(request)


def test_a_template_writes_the_special_tokens_itself():
    tokenizer = tokenizer_of("<s>" + chat_templates.PLAIN)

    assert tokenizer.chat_prompt(ChatRequest(TURNS, 8)).token_ids.count(1) == 1


def test_a_likelihood_leaves_room_for_the_token_that_the_engine_writes():
    tokenizer = tokenizer_of(None, max_tokens=6)

    assert len(tokenizer.likelihood_prompt(LikelihoodRequest("ab", "cd")).token_ids) == 5
    with pytest.raises(PromptTooLongError):
        tokenizer.likelihood_prompt(LikelihoodRequest("ab", "cde"))


def test_nothing_has_no_likelihood():
    with pytest.raises(ValueError, match="at least one token each"):
        tokenizer_of(None).likelihood_prompt(LikelihoodRequest("context", ""))


def test_tokens_are_counted_without_special_ones():
    assert tokenizer_of(None).count_tokens(["abc", ""]) == [3, 0]
    assert tokenizer_of(None).count_tokens([]) == []


@pytest.mark.parametrize(
    ("template", "settings", "prompt"),
    [
        (chat_templates.PLAIN, {}, "<system>be brief</s><user>why?</s><assistant>"),
        (chat_templates.HYBRID, {}, "<system>be brief</s><user>why?</s><assistant><think>\n\n</think>\n\n"),
        (chat_templates.HYBRID, {"thinks": True}, "<system>be brief</s><user>why?</s><assistant>"),
        (
            chat_templates.HYBRID,
            {"template_settings": {"enable_thinking": True}},
            "<system>be brief</s><user>why?</s><assistant>",
        ),
        (chat_templates.NO_SYSTEM, {}, "<user>be brief\n\nwhy?</s><assistant>"),
        (chat_templates.SILENT, {}, "<user>be brief\n\nwhy?</s><assistant>"),
        (
            chat_templates.CHANNELS,
            {"template_settings": {"reasoning_effort": "low"}},
            "<|start|>system<|message|>Reasoning: low<|end|><|start|>system<|message|>be brief<|end|>"
            "<|start|>user<|message|>why?<|end|><|start|>assistant",
        ),
    ],
)
def test_turns_are_rendered_as_the_family_wants_them(template, settings, prompt):
    assert rendered(template, **settings) == prompt


def test_a_conversation_keeps_its_turns_where_the_system_is_folded_into_the_first():
    turns = (*TURNS, Message("assistant", "so."), Message("user", "sure?"))

    assert rendered(chat_templates.NO_SYSTEM, turns=turns) == (
        "<user>be brief\n\nwhy?</s><assistant>so.</s><user>sure?</s><assistant>"
    )


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (None, r"no chat template.*engine\.model"),
        (chat_templates.BROKEN, r"cannot render .*out of order.*engine\.chat_template_kwargs"),
        (chat_templates.FORGETFUL, r"cannot render .*it leaves out what the user says"),
        ("{{ messages | nonsense }}", r"cannot render .*nonsense"),
        (chat_templates.OPENING, r"thinks before every reply.*max_reasoning_tokens"),
    ],
)
def test_a_template_that_cannot_serve_a_judge_is_said_so_when_it_is_tried(template, problem):
    with pytest.raises(ConfigError, match=problem):
        tokenizer_of(template).check_chat(thinks=False)


def test_channels_take_room_to_think():
    tokenizer = tokenizer_of(chat_templates.CHANNELS, marks=(), special=chat_templates.CHANNEL_TOKENS)

    tokenizer.check_chat(thinks=True)
    with pytest.raises(ConfigError, match=r"thinks before every reply.*max_reasoning_tokens"):
        tokenizer.check_chat(thinks=False)


@pytest.mark.parametrize("template", [chat_templates.PLAIN, chat_templates.HYBRID, chat_templates.NO_SYSTEM])
def test_other_templates_serve_with_room_to_think_and_without(template):
    for thinks in (True, False):
        tokenizer_of(template).check_chat(thinks=thinks)


@pytest.mark.parametrize(
    ("template", "reply", "thought", "said"),
    [
        (chat_templates.PLAIN, "[1]", None, "[1]"),
        (chat_templates.HYBRID, "<think>\nhm\n</think>\n\n[1]", "hm", "[1]"),
        (chat_templates.HYBRID, "<think>\nhm", "hm", ""),
        (chat_templates.OPENING, "hm</think>[1]", "hm", "[1]"),
        (chat_templates.OPENING, "[1]? hm", "[1]? hm", ""),
    ],
)
def test_a_reply_is_read_as_its_prompt_began_it(template, reply, thought, said):
    assert read(template, reply) == (thought, said)


def test_a_model_that_is_told_not_to_think_begins_with_what_it_says():
    assert read(chat_templates.HYBRID, "[1]", thinks=False) == (None, "[1]")


@pytest.mark.parametrize(
    ("reply", "thought", "said"),
    [
        (
            "<|channel|>analysis<|message|>[1]?<|end|><|start|>assistant<|channel|>final<|message|>[2]",
            "[1]?",
            "[2]",
        ),
        ("<|channel|>analysis<|message|>[1]?", "[1]?", ""),
    ],
)
def test_channels_are_read_though_their_marks_are_special_tokens(reply, thought, said):
    channels = {"marks": (), "special": chat_templates.CHANNEL_TOKENS}

    assert read(chat_templates.CHANNELS, reply, **channels) == (thought, said)


def test_special_tokens_are_no_part_of_a_reply_even_where_marks_are_such_tokens():
    marks = {"marks": (), "special": ("[THINK]", "[/THINK]", "<pad>")}

    assert read(chat_templates.PLAIN, "[THINK]hm[/THINK][1]<pad>", **marks) == ("hm", "[1]")
    assert read(chat_templates.PLAIN, "[1]<pad>", marks=(), special=("<pad>",)) == (None, "[1]")


def test_a_parser_that_is_named_wins_over_the_one_that_the_tokens_suggest():
    reply = "<seed:think>hm</seed:think>[1]"

    assert read(chat_templates.PLAIN, reply, reasoning_parser="seed_oss") == ("hm", "[1]")
    assert read(chat_templates.PLAIN, reply)[1] == reply


@pytest.mark.parametrize(
    ("marks", "special", "sees"),
    [(MARKS, (), True), ((), (), False), (("<think>",), (), False), ((), ("[THINK]", "[/THINK]"), False)],
)
def test_where_a_thought_ends_is_seen_by_tokens_of_its_own(marks, special, sees):
    assert tokenizer_of(chat_templates.PLAIN, marks=marks, special=special).marks_its_thoughts is sees


def test_a_failure_is_one_short_line_and_costs_nothing():
    too_long = failed_reply(PromptTooLongError(20, 30, reply_tokens=11))
    broken = failed_likelihood(ValueError("bad\n  regular   expression" + "!" * 1000))

    assert (too_long.finish_reason, broken.finish_reason) == ("too_long", "error")
    assert broken.error.startswith("ValueError: bad regular expression!")
    assert len(broken.error) == 500
    assert (too_long.prompt_tokens, too_long.seconds, broken.prompt_tokens, broken.seconds) == (0, 0, 0, 0)
