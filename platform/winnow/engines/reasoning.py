"""What a model thought, told apart from what it said.

Parsers have vLLM's names. vLLM's own are not used for this: they need its tokenizer, and would make a reply depend on
which engine wrote it. The engine splits, so whoever reads a reply gets only what was said.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

ReasoningParser = Literal[
    "cohere_command3",
    "deepseek_r1",
    "deepseek_v3",
    "gemma4",
    "glm45",
    "granite",
    "kimi_k2",
    "minimax_m2",
    "minimax_m3",
    "mistral",
    "nemotron_v3",
    "olmo3",
    "openai_gptoss",
    "qwen3",
    "seed_oss",
    "step3",
]
"""The parsers that can be named. ``openai_gptoss`` reads harmony channels, the others what stands between two marks."""

PARSERS: tuple[ReasoningParser, ...] = get_args(ReasoningParser)


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands before and behind a thought."""

    opening: str
    closing: str


THINK_MARKS = Marks("<think>", "</think>")
_OTHER_MARKS: dict[str, Marks] = {
    "cohere_command3": Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    "gemma4": Marks("<|channel>thought", "<channel|>"),
    "granite": Marks("Here is my thought process:", "Here is my response:"),
    "minimax_m3": Marks("<mm:think>", "</mm:think>"),
    "mistral": Marks("[THINK]", "[/THINK]"),
    "openai_gptoss": Marks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    "seed_oss": Marks("<seed:think>", "</seed:think>"),
}

# Families by their names, where only the name is known, as of a served model; the first that matches.
_BY_NAME: tuple[tuple[str, ReasoningParser], ...] = (
    (r"gpt-?oss", "openai_gptoss"),
    (r"deepseek.*r1|r1-distill|qwq", "deepseek_r1"),
    (r"deepseek-?v3", "deepseek_v3"),
    (r"seed-?oss", "seed_oss"),
    (r"magistral|ministral.*reasoning", "mistral"),
    (r"command-a-reasoning", "cohere_command3"),
    (r"gemma-?4", "gemma4"),
    (r"granite-?(?:speech-?)?3\.[23]", "granite"),
    (r"minimax-?m3", "minimax_m3"),
    (r"minimax-?m2", "minimax_m2"),
    (r"glm-?4\.[5-9]|glm-?5", "glm45"),
    (r"kimi-?k2", "kimi_k2"),
    (r"nemotron", "nemotron_v3"),
    (r"olmo-?3", "olmo3"),
    (r"step-?3", "step3"),
    (r"qwen-?3", "qwen3"),
)
# What the vocabulary of a family holds and that of no other does.
_BY_TOKEN: tuple[tuple[str, ReasoningParser], ...] = (
    ("<|channel|>", "openai_gptoss"),
    ("<seed:think>", "seed_oss"),
    ("[THINK]", "mistral"),
    ("<|START_THINKING|>", "cohere_command3"),
    ("<|channel>", "gemma4"),
    ("<mm:think>", "minimax_m3"),
    # The strictest of those with these two marks: nothing but the marks counts.
    ("</think>", "deepseek_r1"),
)
_MESSAGE = re.compile(
    r"<\|channel\|>\s*(?P<channel>\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?=<\|(?:start|channel|end|return|call)\|>|\Z)",
    re.DOTALL,
)
_SPEAKER = re.compile(r"<\|start\|>\w*")
_CHANNEL_MARK = re.compile(r"<\|(?:channel|message|start|end|return|call)\|>")
# The same where a server dropped the special tokens.
_BARE = re.compile(r"(?P<thought>(?:analysis|commentary).*?)(?:assistantfinal(?P<said>.*))?", re.DOTALL)


def parser_of_name(name: str) -> ReasoningParser | None:
    """The parser for a model of this name; ``None`` if its family is not known to think.

    >>> parser_of_name("openai/gpt-oss-20b"), parser_of_name("Qwen/Qwen3-8B"), parser_of_name("org/model")
    ('openai_gptoss', 'qwen3', None)
    """
    return next((parser for pattern, parser in _BY_NAME if re.search(pattern, name, re.IGNORECASE)), None)


def parser_of_tokens(tokens: Collection[str]) -> ReasoningParser | None:
    """The parser for a model whose vocabulary has ``tokens``; ``None`` if it has no marks of reasoning."""
    return next((parser for token, parser in _BY_TOKEN if token in tokens), None)


def marks_of(parser: ReasoningParser | None) -> Marks:
    """What stands around a thought; ``<think>`` and ``</think>`` for a model that is not known to have any."""
    return _OTHER_MARKS.get(parser or "", THINK_MARKS)


def split_reasoning(
    reply: str, parser: ReasoningParser | None = None, *, is_open: bool = False
) -> tuple[str | None, str]:
    """What the model thought, if it did, and what it said.

    ``is_open``: the prompt has opened the thought already. One that was cut off before it closed reaches to the end;
    where only its end is marked, it starts the text. Of channels only ``final`` was said.

    >>> split_reasoning("<think>two fit</think>[1], [2]")
    ('two fit', '[1], [2]')
    >>> split_reasoning("two fit, or", is_open=True)
    ('two fit, or', '')
    """
    if parser == "openai_gptoss":
        return _split_channels(reply)
    marks = marks_of(parser)
    opening, closing = re.escape(marks.opening), re.escape(marks.closing)
    flags = re.DOTALL | re.IGNORECASE | re.ASCII
    reply = marks.opening + reply if is_open else reply
    thoughts = re.findall(rf"{opening}(.*?)(?:{closing}|\Z)", reply, flags)
    # A space in its place, so that what stood on both sides does not become one word.
    rest = re.sub(rf"{opening}.*?(?:{closing}|\Z)", " ", reply, flags=flags)
    *unopened, said = re.split(closing, rest, flags=flags)
    return _joined([*unopened, *thoughts]), said.strip()


def _split_channels(reply: str) -> tuple[str | None, str]:
    """Harmony, the form of gpt-oss's replies. What stands in no channel was not said."""
    if not _CHANNEL_MARK.search(reply):
        bare = _BARE.fullmatch(reply.strip())
        # A server that reads the channels itself gives what was said alone.
        return (None, reply.strip()) if bare is None else (_joined([bare["thought"]]), (bare["said"] or "").strip())
    messages = list(_MESSAGE.finditer(reply))
    said = [message["text"] for message in messages if message["channel"] == "final"]
    thought = [message["text"] for message in messages if message["channel"] != "final"]
    outside = _CHANNEL_MARK.sub(" ", _SPEAKER.sub(" ", _MESSAGE.sub(" ", reply)))
    return _joined([*thought, outside]), " ".join(said).strip()


def _joined(thoughts: Collection[str]) -> str | None:
    return "\n".join(filter(None, (thought.strip() for thought in thoughts))) or None
