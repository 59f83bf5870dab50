"""Chat templates with what real families do, each reduced to that, and a tokenizer for them. All of them ours."""

from collections.abc import Sequence
from string import printable

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

_TURNS = "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</s>{% endfor %}"
_SPEAK = "{% if add_generation_prompt %}<assistant>{% endif %}"

PLAIN = _TURNS + _SPEAK

# Thinks unless it is told not to (Qwen3, GLM-4.5, SmolLM3).
HYBRID = (
    _TURNS + _SPEAK + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)

# Opens the thought itself, whatever it is told (DeepSeek-R1, QwQ).
OPENING = _TURNS + "{% if add_generation_prompt %}<assistant><think>\n{% endif %}"

# Knows no system turn, and wants user and assistant in turns (Gemma).
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for turn in messages %}{% if (turn.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}{% endif %}{% endfor %}"
    + PLAIN
)

# Leaves the system's turn out without a word.
SILENT = PLAIN.replace("for turn in messages", "for turn in messages if turn.role != 'system'")

# Writes channels (gpt-oss); how much it thinks is a variable.
CHANNELS = (
    "<|start|>system<|message|>Reasoning: {{ reasoning_effort | default('medium') }}<|end|>"
    "{% for turn in messages %}<|start|>{{ turn.role }}<|message|>{{ turn.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
CHANNEL_TOKENS = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")

BROKEN = "{{ raise_exception('out of order') }}"
FORGETFUL = PLAIN.replace("{{ turn.content }}", "{{ turn.content if loop.last else '' }}")


def characters(
    template: str | None, *, marks: Sequence[str] = (), special: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A decoder's tokenizer with a token per character: ``<s>`` at the start, ``</s>`` ends a turn, nothing is lost.

    ``marks`` are tokens of their own; so are ``special`` ones, which decoding leaves out.
    """
    pieces = ["<unk>", "<s>", "</s>", *printable]
    rules = Tokenizer(WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="<unk>"))
    rules.pre_tokenizer, rules.decoder = Split(Regex(r"[\s\S]"), "isolated"), Fuse()
    rules.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    rules.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, extra_special_tokens=list(special), **names)
    tokenizer.chat_template = template
    return tokenizer
