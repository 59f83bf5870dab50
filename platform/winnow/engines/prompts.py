"""Requests as the token ids that a local engine computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from winnow.engines.answers import PromptTooLongError
from winnow.engines.markers import defuser_of
from winnow.engines.protocol import LikelihoodRequest, Message
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


class PromptTokenizer:
    """A model's tokenizer and chat template, and how many tokens its engine takes.

    Texts and turns are plain text: special tokens come from the template alone, never from what stands in them.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._as_text = defuser_of(_special_tokens(tokenizer))

    @classmethod
    def load(cls, directory: Path, max_tokens: int) -> Self:
        """The tokenizer of the checkpoint in ``directory``."""
        from winnow.modeling.transformers_light import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(directory, local_files_only=True), max_tokens)

    def likelihood_prompt(self, request: LikelihoodRequest) -> ScoredPrompt:
        """The continuation is tokenised apart, so the boundary is exact. Raises ``ValueError``, also if too long."""
        context = self._tokenizer(self._as_text(request.context), add_special_tokens=True).input_ids
        continuation = self._tokenizer(self._as_text(request.continuation), add_special_tokens=False).input_ids
        if not context or not continuation:
            raise ValueError("expected a context and a continuation of at least one token each")
        # An engine that scores a prompt also writes one token.
        self._check(len(context) + len(continuation), reply_tokens=1)
        return ScoredPrompt(context + continuation, len(context))

    def chat_prompt(self, messages: Sequence[Message], *, reply_tokens: int) -> list[int]:
        """The conversation up to where the model speaks. Raises ``PromptTooLongError`` if no reply fits behind it."""
        token_ids = self._apply_template(messages)
        self._check(len(token_ids), reply_tokens=reply_tokens)
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of a reply, without special tokens."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        plain = [self._as_text(text) for text in texts]
        return [len(ids) for ids in self._tokenizer(plain, add_special_tokens=False).input_ids] if plain else []

    def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` with the model's chat template around them."""
        return len(self._apply_template(messages))

    def _apply_template(self, messages: Sequence[Message]) -> list[int]:
        if not self._tokenizer.chat_template:
            raise ConfigError("this model has no chat template; name an instruction-tuned one as engine.model")
        turns = [{"role": message.role, "content": self._as_text(message.content)} for message in messages]
        return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True).input_ids

    def _check(self, prompt_tokens: int, *, reply_tokens: int) -> None:
        if prompt_tokens + reply_tokens > self._max_tokens:
            raise PromptTooLongError(prompt_tokens, self._max_tokens, reply_tokens=reply_tokens)


def _special_tokens(tokenizer: Any) -> set[str]:
    """Those that have a name, and those that only the vocabulary calls special."""
    try:
        added = tokenizer.added_tokens_decoder.values()
    except NotImplementedError:  # Mistral's own tokenizer, which takes no special token from a text anyway
        added = ()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
