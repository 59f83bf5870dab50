"""What a model thought and what it said, by the marks of each family; the replies are of the shapes that they write."""

import ast
import importlib.util
from pathlib import Path

import pytest

from winnow.engines.reasoning import PARSERS, marks_of, parser_of_name, parser_of_tokens, split_reasoning

ANALYSIS, FINAL = "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("reply", "thought", "said"),
    [
        ("[1]", None, "[1]"),
        ("<think>\n\n</think>\n\n[1]", None, "[1]"),
        ("<think> a </think> [1] ", "a", "[1]"),
        ("<THINK>\n[3]\n</THINK>\n\n[1]", "[3]", "[1]"),
        ("a</think>[1]", "a", "[1]"),
        ("<think>a", "a", ""),
        ("[1] <think> [3]", "[3]", "[1]"),
        ("[1<think>x</think>2]", "x", "[1 2]"),
        ("<think></think>[1]<think>[2", "[2", "[1]"),
        ("<think>a <think> [3] </think> [4] </think> [1]", "[4]\na <think> [3]", "[1]"),
        ("", None, ""),
    ],
)
def test_reasoning_is_split_from_what_is_said(reply, thought, said):
    assert split_reasoning(reply) == (thought, said)


@pytest.mark.parametrize(
    ("reply", "thought", "said"),
    [
        ("[1] fits, or", "[1] fits, or", ""),
        ("[1] fits</think>\n\n[2]", "[1] fits", "[2]"),
        ("</think>[2]", None, "[2]"),
        ("", None, ""),
    ],
)
def test_a_thought_that_the_prompt_has_opened_reaches_to_its_mark_or_to_the_end(reply, thought, said):
    assert split_reasoning(reply, is_open=True) == (thought, said)


@pytest.mark.parametrize(
    ("reply", "thought", "said"),
    [
        (f"{ANALYSIS}[1]?<|end|><|start|>assistant{FINAL}[2]<|return|>", "[1]?", "[2]"),
        (f"{ANALYSIS}[1]?<|end|><|start|>assistant{FINAL}[2]", "[1]?", "[2]"),
        (f"{ANALYSIS}The user asks which of [1]", "The user asks which of [1]", ""),
        (f"{ANALYSIS}[1]?<|end|>", "[1]?", ""),
        (f"{ANALYSIS}[1]?<|end|><|start|>assistant<|channel|>", "[1]?", ""),
        (f"{FINAL}[2]<|return|>", None, "[2]"),
        ("<|channel|>commentary to=functions.find <|constrain|>json<|message|>{}<|call|>", "{}", ""),
        ("<|channel|>final <|constrain|>json<|message|>[2]", None, "[2]"),
        ("[2]<|return|>", "[2]", ""),
        ("<|channel|>analysis", "analysis", ""),
        ("analysisThe user asks.assistantfinal[2]", "analysisThe user asks.", "[2]"),
        ("analysisThe user asks which of [1]", "analysisThe user asks which of [1]", ""),
        ("[2]", None, "[2]"),
    ],
)
def test_of_channels_only_the_final_one_is_said(reply, thought, said):
    assert split_reasoning(reply, "openai_gptoss") == (thought, said)


@pytest.mark.parametrize(
    ("parser", "reply"),
    [
        ("qwen3", "<think>hm</think>\n\n[1]"),
        ("deepseek_r1", "hm\n</think>\n\n[1]"),
        ("seed_oss", "<seed:think>hm</seed:think>[1]"),
        ("mistral", "[THINK]hm[/THINK][1]"),
        ("cohere_command3", "<|START_THINKING|>hm<|END_THINKING|>[1]"),
        ("gemma4", "<|channel>thought\nhm<channel|>[1]"),
        ("granite", "Here is my thought process: hm Here is my response: [1]"),
        ("minimax_m3", "<mm:think>hm</mm:think>[1]"),
    ],
)
def test_each_family_has_its_marks(parser, reply):
    assert split_reasoning(reply, parser) == ("hm", "[1]")


@pytest.mark.parametrize(
    ("name", "parser"),
    [
        ("openai/gpt-oss-20b", "openai_gptoss"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("Qwen/QwQ-32B-AWQ", "deepseek_r1"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "deepseek_r1"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek_v3"),
        ("mistralai/Magistral-Small-2509", "mistral"),
        ("ByteDance-Seed/Seed-OSS-36B-Instruct", "seed_oss"),
        ("zai-org/GLM-4.6", "glm45"),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("google/gemma-2-9b-it", None),
        ("gpt-4o-mini", None),
    ],
)
def test_a_family_is_known_by_its_name(name, parser):
    assert parser_of_name(name) == parser


@pytest.mark.parametrize(
    ("tokens", "parser"),
    [
        ({"<|channel|>", "<|message|>"}, "openai_gptoss"),
        ({"<think>", "</think>"}, "deepseek_r1"),
        ({"[THINK]", "[/THINK]", "[INST]"}, "mistral"),
        ({"<|im_start|>", "<|im_end|>"}, None),
    ],
)
def test_a_family_is_known_by_its_tokens(tokens, parser):
    assert parser_of_tokens(tokens) == parser


def test_every_parser_is_one_of_vllms():
    source = Path(importlib.util.find_spec("vllm").origin).parent / "reasoning/__init__.py"
    (table,) = (
        node.value
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_REASONING_PARSERS_TO_REGISTER"
    )

    assert set(PARSERS) <= set(ast.literal_eval(table))
    assert marks_of("qwen3") == marks_of(None)
