"""No text becomes markup of a prompt, whatever the family of the model; HTML, code and prose stay as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from winnow.engines.markers import defuse
from winnow.engines.prompts import PromptTokenizer
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message

# As the models' tokenizers and chat templates have them.
FAMILIES = {
    "ChatML, Qwen": "<|im_start|> <|im_end|> <|endoftext|> <tool_call> </tool_call> <tool_response> <think> </think>",
    "Llama 2": "<s> </s> <unk> [INST] [/INST] <<SYS>> <</SYS>>",
    "Llama 3": "<|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> <|python_tag|>",
    "Llama 4": "<|header_start|> <|header_end|> <|eot|> <|python_start|>",
    "Gemma": "<bos> <eos> <pad> <start_of_turn> <end_of_turn> <start_of_image> <unused7> <start_function_call>",
    "Gemma 4": "<|turn> <turn|> <|channel> <channel|> <|tool_call> <tool_call|>",
    "Mistral": "[INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS] [THINK]",
    "Phi": "<|system|> <|user|> <|assistant|> <|end|> <|im_sep|> <|tool|> <|/tool|>",
    "DeepSeek": "<｜begin▁of▁sentence｜> <｜end▁of▁sentence｜> <｜User｜> <｜Assistant｜> <｜tool▁calls▁begin｜>",
    "GPT-2, NeoX": "<|endoftext|> <|padding|>",
    "harmony": "<|start|> <|channel|> <|message|> <|end|> <|call|> <|return|> <|constrain|>",
    "Cohere": "<BOS_TOKEN> <|START_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|END_OF_TURN_TOKEN|> <EOS_TOKEN> <MASK_TOKEN>",
    "GLM": "[gMASK] [sMASK] <sop> <|user|> <|observation|> <arg_key> </arg_value>",
    "Granite": "<|start_of_role|> <|end_of_role|> <|end_of_text|> <fim_prefix> <filename>",
    "SmolLM": "<|im_start|> <|endoftext|> <repo_name> <reponame> <file_sep> <gh_stars> <issue_start> <jupyter_code>",
    "Kimi": "<|im_user|> <|im_middle|> <|tool_calls_section_begin|> [EOS] [BOS]",
    "MiniMax": "]~b] ]~!b[ [e~[ <minimax:tool_call>",
    "Seed": "<seed:bos> <seed:eos> <seed:think> </seed:think>",
    "Baichuan, InternLM": "<reserved_106> <eoh> <eoa> [UNUSED_TOKEN_145]",
    "T5, Nemotron": "<extra_id_0> <SPECIAL_12> </s>",
    "EXAONE": "[|system|] [|user|] [|assistant|] [|endofturn|]",
    "Ling": "<role> </role> <|role_end|>",
    "TeleChat": "<_start> <_system> <_user> <_bot> <_end>",
    "Gemma for functions": "<start_function_declaration> <end_function_response>",
    "Hermes, functions": "<function=f> <parameter=x> <function_calls> <|reserved_special_token_5|>",
}
PLAIN = [
    "<p class='a'>x</p><table><tr><td>1</td></tr></table><br/><span id=s>s</span><!-- c -->",
    "if a < b and c > d or x<y>z: return a[i][j] | b || c << 2 >> 3",
    "std::vector<int> v; Map<String, List<T>> m; Array<string|number>; a <- b; x |> f <| y; <*> <$> <>",
    "echo [ARG] [OPTIONS]... <file> <s@example.org> <https://example.org/s> [1] [a, b] [INSTALL] [x]",
    '#!/bin/sh\ncat <<EOF | tee </dev/null >out\n[section]\n[[table]]\nkey = ["s"]\nEOF',
    "a | b\n--- | ---\n< 5 | > 7, |x| < |y|, p(s|t) > 0, <|>",
    "the user | the assistant | system: begin of text, end of turn, INST, SYS",
]


def byte_tokenizer(special, *, template=None):
    """A real tokenizer with a token per byte and the tokens ``special``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rules = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, chat_template=template)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def special_in(token_ids, tokenizer):
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return [tokenizer.decode([each]) for each in token_ids if each in special]


ALL = sorted({marker for family in FAMILIES.values() for marker in family.split()})
EVERY_FAMILY = byte_tokenizer(ALL)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_marker_of_a_family_is_left_and_every_other_character_is(family):
    text = f"before {FAMILIES[family]} behind"

    defused = defuse(text)

    assert [marker for marker in FAMILIES[family].split() if marker in defused] == []
    assert defused.replace(" ", "") == text.replace(" ", "")
    assert special_in(EVERY_FAMILY(text).input_ids, EVERY_FAMILY)
    assert special_in(EVERY_FAMILY(defused).input_ids, EVERY_FAMILY) == []


@pytest.mark.parametrize("text", PLAIN)
def test_html_code_and_prose_stay_as_they_are(text):
    assert defuse(text) == text


@given(
    st.lists(st.sampled_from([*ALL, "<", ">", "|", "[", "]", "/", "s", "<|", "|>", "~", "\n"]), max_size=9).map("".join)
)
def test_no_mixture_of_markers_and_their_parts_makes_a_special_token(text):
    assert special_in(EVERY_FAMILY(defuse(text)).input_ids, EVERY_FAMILY) == []
    assert defuse(defuse(text)) == defuse(text)


TEMPLATE = (
    "☃begin☃{% for turn in messages %}]~b]{{ turn['role'] }}\n{{ turn['content'] | trim }}[e~[{% endfor %}"
    "{% if add_generation_prompt %}]~b]ai{% endif %}"
)
ODD = ["☃begin☃", "]~b]", "[e~[", "~odd~", "\n\nHuman:"]


@pytest.mark.parametrize("text", ["a ☃begin☃ b", "]~b]system", "]~b]~b]system", "~odd~odd~", "x[e~[]~b]~odd~", *ODD])
def test_a_tokenizers_own_special_tokens_come_from_the_template_alone(text):
    rules = byte_tokenizer(ODD, template=TEMPLATE)
    tokenizer = PromptTokenizer(rules, 1000)
    turns = [Message("system", "be brief"), Message("user", text), Message("assistant", text), Message("user", text)]
    plain = [Message(turn.role, "harmless") for turn in turns]

    chat = tokenizer.chat_prompt(ChatRequest(turns, 1)).token_ids
    scored = tokenizer.likelihood_prompt(LikelihoodRequest(text, f" {text}"))

    assert special_in(rules(text).input_ids, rules)
    assert special_in(chat, rules) == special_in(tokenizer.chat_prompt(ChatRequest(plain, 1)).token_ids, rules)
    assert special_in(scored.token_ids, rules) == []
    assert tokenizer.count_tokens([text, f" {text}"]) == [scored.num_context_tokens, scored.num_continuation_tokens]


def test_a_marker_of_the_template_is_broken_though_no_one_calls_it_special_and_other_tokens_stay():
    rules = byte_tokenizer(["~end~"], template="{% for t in messages %}@me@user{{ t['content'] }}    ~end~{% endfor %}")
    rules.add_tokens(["@me@", "user", "    ", "@other@"])
    text = "@me@user    @other@"

    rendered = PromptTokenizer(rules, 100).render([Message("user", text)], thinks=False)

    assert rendered == "@me@user@ me@user    @other@    ~end~"


def test_a_special_token_of_one_character_is_left_alone():
    assert PromptTokenizer(byte_tokenizer(["!"]), 100).count_tokens(["so!"]) == [3]
