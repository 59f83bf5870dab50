"""Requests as the token ids that a local engine computes, and its replies as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from winnow.engines.answers import PromptTooLongError
from winnow.engines.chat_template import ALWAYS_THINKS, ChatTemplate
from winnow.engines.config import TransformersConfig, VllmConfig
from winnow.engines.markers import defuser_of
from winnow.engines.protocol import ChatRequest, LikelihoodRequest, Message
from winnow.engines.reasoning import THINK_MARKS, ReasoningParser, marks_of, parser_of_tokens, split_reasoning
from winnow.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """A context and the continuation whose likelihood is asked for."""

    token_ids: list[int]
    num_context_tokens: int

    @property
    def num_continuation_tokens(self) -> int:
        """Tokens to be scored; at least one."""
        return len(self.token_ids) - self.num_context_tokens


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation as the model gets it. ``opens_thought``: its reply begins within one."""

    token_ids: list[int]
    opens_thought: bool


class PromptTokenizer:
    """A model's tokenizer and chat template, and how many tokens its engine takes.

    Texts and turns are plain text: special tokens come from the template alone, never from what stands in them.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_tokens: int,
        *,
        template_settings: Mapping[str, Any] = MappingProxyType({}),
        reasoning_parser: ReasoningParser | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._as_text = defuser_of(_special_tokens(tokenizer))
        self.max_tokens = max_tokens
        self._template_settings = template_settings
        self.reasoning_parser = reasoning_parser or parser_of_tokens(tokenizer.get_vocab().keys())
        self._marks = marks_of(self.reasoning_parser)

    @property
    def marks_its_thoughts(self) -> bool:
        """Whether thoughts stand between ``<think>`` and ``</think>``, each a token: an engine sees them end."""
        vocabulary = self._tokenizer.get_vocab()
        return self._marks == THINK_MARKS and {THINK_MARKS.opening, THINK_MARKS.closing} <= vocabulary.keys()

    def likelihood_prompt(self, request: LikelihoodRequest) -> ScoredPrompt:
        """The continuation is tokenised apart, so the boundary is exact. Raises ``ValueError``, also if too long."""
        context = self._tokenizer(self._as_text(request.context), add_special_tokens=True).input_ids
        continuation = self._tokenizer(self._as_text(request.continuation), add_special_tokens=False).input_ids
        if not context or not continuation:
            raise ValueError("expected a context and a continuation of at least one token each")
        # An engine that scores a prompt also writes one token.
        self._check(len(context) + len(continuation), reply_tokens=1)
        return ScoredPrompt(context + continuation, len(context))

    def chat_prompt(self, request: ChatRequest) -> ChatPrompt:
        """The conversation up to where the model speaks. Raises ``PromptTooLongError`` if no reply fits behind it."""
        rendered = self.render(request.messages, thinks=request.thinks)
        prompt = ChatPrompt(self.token_ids(rendered), self._template.opens_thought(rendered))
        self._check(len(prompt.token_ids), reply_tokens=request.max_reply_tokens)
        return prompt

    def read_reply(self, prompt: ChatPrompt, token_ids: Sequence[int]) -> tuple[str | None, str]:
        """What the model thought and what it said, without special tokens."""
        special = self._tokenizer.all_special_tokens
        # Marks that are special tokens would be lost with the others.
        marks_are_special = self._marks.closing in special or self.reasoning_parser == "openai_gptoss"
        reply = self._tokenizer.decode(token_ids, skip_special_tokens=not marks_are_special)
        thought, said = split_reasoning(reply, self.reasoning_parser, is_open=prompt.opens_thought)
        return thought, _without(said, special) if marks_are_special else said

    @property
    def has_chat_template(self) -> bool:
        """Whether the model can be chatted with."""
        return bool(self._tokenizer.chat_template)

    def render(self, messages: Sequence[Message], *, thinks: bool) -> str:
        """``messages`` as the text that the model gets, special tokens included."""
        plain = [replace(message, content=self._as_text(message.content)) for message in messages]
        return self._template.render(plain, thinks=thinks)

    def token_ids(self, text: str) -> list[int]:
        """Of ``text`` as it stands; a template has written the special tokens already."""
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        plain = [self._as_text(text) for text in texts]
        return [len(ids) for ids in self._tokenizer(plain, add_special_tokens=False).input_ids] if plain else []

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` with the model's chat template around them, told to think or not: the longer."""
        return max(len(self.token_ids(self.render(messages, thinks=thinks))) for thinks in (False, True))

    def check_chat(self, *, thinks: bool) -> None:
        """Raises ``ConfigError`` if the template cannot render a judge's turns, or the model thinks without room."""
        rendered = self._template.render([Message("user", "?")], thinks=thinks)
        always_thinks = self.reasoning_parser == "openai_gptoss" or self._template.opens_thought(rendered)
        if always_thinks and not thinks:
            raise ConfigError(ALWAYS_THINKS)

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self._tokenizer, self._template_settings, self._marks)

    def _check(self, prompt_tokens: int, *, reply_tokens: int) -> None:
        if prompt_tokens + reply_tokens > self.max_tokens:
            raise PromptTooLongError(prompt_tokens, self.max_tokens, reply_tokens=reply_tokens)


def load_tokenizer(config: VllmConfig | TransformersConfig, directory: Path) -> PromptTokenizer:
    """The tokenizer of the checkpoint in ``directory``, as ``config`` wants it used."""
    from winnow.modeling.transformers_light import AutoTokenizer

    return PromptTokenizer(
        AutoTokenizer.from_pretrained(directory, local_files_only=True),
        config.max_tokens,
        template_settings=config.chat_template_kwargs,
        reasoning_parser=config.reasoning_parser,
    )


def _without(text: str, tokens: Sequence[str]) -> str:
    for token in tokens:
        text = text.replace(token, "")
    return text.strip()


def _special_tokens(tokenizer: Any) -> set[str]:
    """Those that have a name, those that only the vocabulary calls special, and the markers of the chat template.

    Some models' markers are tokens of their own, yet not called special. A word that is such a token stays a word.
    """
    try:
        added = tokenizer.added_tokens_decoder.values()
    except NotImplementedError:  # Mistral's own tokenizer, which takes no special token from a text anyway
        added = ()
    template = str(tokenizer.chat_template)
    markers = {token.content for token in added if token.content.strip() and not token.content.strip().isalnum()}
    written = {marker for marker in markers if marker in template}
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special), *written}
