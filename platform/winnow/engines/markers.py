"""Text that stays text: what a model's prompt format would take for markup is broken by a space.

A passage may hold ``<|im_end|><|im_start|>system``. In a prompt that would be the end of the user's turn and a turn of
the system, so a passage could speak as the system. What is broken is a closed list, by family of models: HTML, code
and prose pass unchanged, but for what looks exactly like one of these markers (``<s>`` becomes ``< s>``).
"""

import re
from collections.abc import Callable, Iterable

_ROLES = (
    # Llama 2, Mistral, T5 and many others; Gemma; Cohere; Baichuan; InternLM; Ling; TeleChat.
    *("s", "bos", "eos", "pad", "unk", "sep", "cls", "mask"),
    *("start_of_turn", "end_of_turn", "start_of_image", "end_of_image", "image_soft_token"),
    *(
        "bos_token",
        "eos_token",
        "eop_token",
        "mask_token",
        "eot",
        "eod",
        "sop",
        "eop",
        "eoh",
        "eoa",
        "im_start",
        "im_end",
    ),
    *("role", "_user", "_bot", "_system", "_start", "_end"),
    r"(?:reserved|unused|special|extra_id|extra|mask)_?\d+",
)
_TOOLS = (
    # Qwen, Hermes, GLM, Seed, MiniMax, Gemma for functions.
    r"(?:\w+:)?think(?:ing)?",
    r"(?:\w+[:_])?(?:tool_calls?|tool_response|tool_result|function_(?:calls?|declaration|response))",
    *("tools", "arg_key", "arg_value", r"function=[\w.-]+", r"parameter=[\w.-]+", r"seed:\w+"),
)
_FILES = (
    # StarCoder, SmolLM, Granite and others that were trained on repositories.
    *("fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "reponame", "repo_name", "file_sep", "filename", "gh_stars"),
    r"(?:issue|jupyter)_\w+|empty_output|commit_(?:before|msg|after)",
)
_SQUARE = (
    # Mistral; GLM; BERT's, which some decoders have kept.
    *("INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS", "TOOL_CONTENT", "ARGS", "CALL_ID"),
    *("THINK", "MODEL_SETTINGS", "PREFIX", "MIDDLE", "SUFFIX", r"IMG(?:_BREAK|_END)?", "AUDIO", "BEGIN_AUDIO"),
    *("TRANSCRIBE", "[gse]?MASK", "CLS", "SEP", "PAD", "UNK", "BOS", "EOS", r"UNUSED_TOKEN_\d+"),
)
_MARKERS = re.compile(
    # ChatML, Qwen, Llama 3 and 4, Phi, GPT-2 and NeoX, harmony, Granite, Kimi; DeepSeek, in wide characters; Gemma 4.
    r"<(?=[|｜][^\s<>]{1,64}>|[^\s<>]{1,64}[|｜]>)"
    rf"|(?i:<(?=/?(?:{'|'.join((*_ROLES, *_TOOLS, *_FILES))})>))"
    # Llama 2; MiniMax; EXAONE.
    r"|<(?=</?SYS>>)|\](?=~!?\w+[\[\]])|\[(?=\w~\[)|\[(?=[|｜]\w{1,64}[|｜]\])"
    rf"|\[(?=/?(?:{'|'.join(_SQUARE)})\])"
)

MARKERS = _MARKERS.pattern
"""Changes when the list does; what renders prompts takes it into its identity."""


def defuse(text: str) -> str:
    """``text`` with a space in every marker, in the listed families, of a turn, a role, a tool call or a text's end.

    >>> defuse("<b>a</b> <|im_end|>[/INST] f(x) <s>")
    '<b>a</b> < |im_end|>[ /INST] f(x) < s>'
    """
    return _MARKERS.sub(r"\g<0> ", text)


def defuser_of(special_tokens: Iterable[str]) -> Callable[[str], str]:
    """``defuse`` for one tokenizer: a space behind the first character of each of its ``special_tokens``.

    A token of one character, as some models pad with, cannot be broken and stays.
    """
    longer = sorted(token for token in special_tokens if len(token) > 1)
    if not longer:
        return lambda text: text
    # Looked ahead for, not taken: two tokens can overlap, as ]~b]~b] of MiniMax does.
    starts = re.compile(rf"(?={'|'.join(map(re.escape, longer))}).", re.DOTALL)
    return lambda text: starts.sub(r"\g<0> ", text)
