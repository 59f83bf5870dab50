"""An engine without a model: it counts what a real one would compute, and replies as a typical judge would.

For estimates before anything is spent, and for comparing prompts. Its judgments mean nothing.
"""

import random
import re
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path

from winnow.engines.answers import PromptTooLongError, failed_likelihood, failed_reply
from winnow.engines.checkpoint import checkpoint_directory
from winnow.engines.config import EngineConfig
from winnow.engines.prompts import PromptTokenizer, load_tokenizer
from winnow.engines.protocol import ChatRequest, Likelihood, LikelihoodRequest, Message, Reply
from winnow.seeding import derive_seed

Tokenise = Callable[[str], Sequence[Hashable]]
"""The tokens of a text, of whatever kind: they are counted and compared."""

RenderChat = Callable[[Sequence[Message]], str]
"""Messages as the text that a model gets, up to where its reply starts."""

_PSEUDO_ANSWER = "The passages describe what is asked for and how it is done. The details depend on the case at hand."
_CHARACTERS_PER_TOKEN = 3  # on the safe side for English, where it is nearer to 4
_LABEL_OF_PASSAGE = re.compile(r"^\[(\d+)\]", re.MULTILINE)
_LABEL_IN_REPLY = re.compile(r"\[(\d+)\]")


class CountingEngine:
    """Counts tokens, with a prefix cache of whole blocks like a paged engine's; nothing is ever evicted from it.

    A prompt whose last paragraph allows ``[none]`` gets ``kept_share`` of its labels, at least one; all of them
    where it shows `` > `` between labels. Any other prompt gets an answer of two sentences. A model that may think
    is taken to use all of the tokens that it has for that.
    """

    model_id = "counting"

    def __init__(
        self,
        tokenise: Tokenise,
        *,
        max_tokens: int,
        render_chat: RenderChat | None = None,
        kept_share: float = 0.2,
        block_tokens: int = 16,
    ) -> None:
        self.max_tokens = max_tokens
        self.kept_share = kept_share
        self._tokenise = tokenise
        self._render_chat = render_chat or _plain_chat
        self._block_tokens = block_tokens
        self._cached_blocks: set[int] = set()

    async def chat(self, request: ChatRequest) -> Reply:
        """What a typical judge would say, and what that would cost."""
        prompt = self._tokenise(self._render_chat(request.messages))
        if len(prompt) + request.max_reply_tokens > self.max_tokens:
            error = PromptTooLongError(len(prompt), self.max_tokens, reply_tokens=request.max_reply_tokens)
            return failed_reply(error)
        text = self._reply(request.messages)
        num_written = len(self._tokenise(text)) + request.max_reasoning_tokens
        return Reply(text, "stop", len(prompt), self._look_up(prompt), num_written, 0.0)

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        """A mean log probability of 0, and the tokens that scoring would take: it cannot use a prefix cache."""
        num_context, num_continuation = await self.count_tokens([request.context, request.continuation])
        if num_context + num_continuation + 1 > self.max_tokens:
            return failed_likelihood(
                PromptTooLongError(num_context + num_continuation, self.max_tokens, reply_tokens=1)
            )
        return Likelihood(0.0, num_continuation, num_context + num_continuation, 0, 0, 0.0)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special tokens."""
        return [len(self._tokenise(text)) for text in texts]

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` as they are rendered."""
        return len(self._tokenise(self._render_chat(messages)))

    def close(self) -> None:
        """Forget the cache."""
        self._cached_blocks.clear()

    def _look_up(self, prompt: Sequence[Hashable]) -> int:
        """Tokens of ``prompt`` that an earlier one started with, which from now on it is itself.

        The last token is always computed: the first token of the reply follows from it.
        """
        cached, digest = 0, 0
        for end in range(self._block_tokens, len(prompt) + 1, self._block_tokens):
            digest = hash((digest, *prompt[end - self._block_tokens : end]))
            if digest in self._cached_blocks and end < len(prompt):
                cached = end
            self._cached_blocks.add(digest)
        return cached

    def _reply(self, messages: Sequence[Message]) -> str:
        _, _, asked_form = messages[-1].content.rpartition("\n\n")
        labels = _labels_shown(messages)
        if "[none]" not in asked_form or not labels:
            return _PSEUDO_ANSWER
        if "] > [" in asked_form:
            return " > ".join(f"[{label}]" for label in labels)
        # Drawn, because pools are shuffled: were the first ones kept, the next prompt would begin with the same
        # passages, and the cache would look better than it is. The text is the seed, so equal prompts agree.
        draw = random.Random(derive_seed(0, messages[-1].content))
        kept = sorted(draw.sample(labels, max(1, round(self.kept_share * len(labels)))))
        return ", ".join(f"[{label}]" for label in kept)


def counting_engine(config: EngineConfig, cache: Path) -> CountingEngine:
    """An engine that counts with the tokenizer of ``config``'s model, the only part of it that is loaded.

    What a server's model makes of a text is not known here: a token for every third character.
    """
    if config.kind == "server":
        return CountingEngine(_thirds, max_tokens=config.max_tokens)
    return count_with_tokenizer(load_tokenizer(config, checkpoint_directory(config, cache)))


def count_with_tokenizer(tokenizer: PromptTokenizer) -> CountingEngine:
    """An engine that counts with ``tokenizer`` and, where it has one, its chat template."""
    return CountingEngine(
        tokenizer.token_ids,
        max_tokens=tokenizer.max_tokens,
        render_chat=partial(tokenizer.render, thinks=False) if tokenizer.has_chat_template else None,
    )


def _labels_shown(messages: Sequence[Message]) -> list[int]:
    """Labels of the passages, or those that an earlier reply kept, whichever comes last."""
    for message in reversed(messages):
        if message.role == "assistant":
            labels = [int(label) for label in _LABEL_IN_REPLY.findall(message.content)]
        else:
            labels = _count_up(_LABEL_OF_PASSAGE.findall(message.content))
        if labels:
            return labels
    return []


def _count_up(labels: Sequence[str]) -> list[int]:
    """1, 2, 3 ... as far as they come in this order; a passage's text may hold others."""
    counted: list[int] = []
    for label in labels:
        if label == str(len(counted) + 1):
            counted.append(len(counted) + 1)
    return counted


def _thirds(text: str) -> list[str]:
    return [text[start : start + _CHARACTERS_PER_TOKEN] for start in range(0, len(text), _CHARACTERS_PER_TOKEN)]


def _plain_chat(messages: Sequence[Message]) -> str:
    return "".join(f"{message.role}\n{message.content}\n\n" for message in messages) + "assistant\n"
