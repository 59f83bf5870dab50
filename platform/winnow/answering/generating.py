"""Ask a generator with passages before it, and say whether its answer stands on them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from winnow.answering.citations import find_citations, says_none
from winnow.answering.prompting import Prompt, Shown, build_prompt
from winnow.engines.answers import ServerError
from winnow.engines.protocol import ChatRequest, Engine, EngineDeadError, Reply
from winnow.errors import WinnowError
from winnow.records import ScoredPassage

# Where tokens are only estimated, as for a server that does not count them, a prompt may turn out too long.
_SHARES = (1.0, 0.5, 0.25)
_log = logging.getLogger("winnow.api")

Reason = Literal["no_passages", "not_in_passages", "truncated", "no_text", "no_citation", "unknown_citation"]
"""Why an answer is not supported: no passage was found, or had room; the model says that the passages do not answer;
its reply was cut off; was empty; cites nothing; or cites a number that it was not shown."""


class GeneratorFailedError(WinnowError):
    """The generator could not be asked, or did not answer."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the generator made of the passages. ``cited`` holds zero-based positions in ``shown``."""

    answer: str | None
    reason: Reason | None
    cited: tuple[int, ...] = ()
    shown: tuple[Shown, ...] = ()
    prompt_tokens: int = 0
    output_tokens: int = 0


class Answerer:
    """Answers questions from passages, greedily: equal passages and an equal model give equal answers."""

    def __init__(
        self, engine: Engine, *, max_reply_tokens: int, max_reasoning_tokens: int = 0, log_errors: bool = False
    ) -> None:
        """``max_reasoning_tokens`` come on top for a model that thinks. ``log_errors``: write all of what the
        generator's server says into the log; it may repeat the prompt."""
        self._engine = engine
        self._max_reply_tokens = max_reply_tokens
        self._max_reasoning_tokens = max_reasoning_tokens
        self._log_errors = log_errors

    @property
    def model(self) -> str:
        """The generator's name."""
        return self._engine.model_id

    async def answer(self, query: str, passages: Sequence[ScoredPassage]) -> Answered:
        """The answer with what it cites. Raises ``GeneratorFailedError`` and ``QuestionTooLongError``."""
        try:
            prompt, reply = await self._ask(query, passages)
        except (EngineDeadError, ServerError) as error:
            raise self._failed(str(error)) from None
        if reply is None:
            return Answered(None, "no_passages")
        if reply.finish_reason in ("error", "too_long"):
            raise self._failed(reply.error or "the engine did not say why")
        return _read(reply, prompt)

    async def _ask(self, query: str, passages: Sequence[ScoredPassage]) -> tuple[Prompt, Reply | None]:
        """No reply where there is no passage to show."""
        room = self._max_reply_tokens + self._max_reasoning_tokens
        for share in _SHARES:
            prompt = await build_prompt(self._engine, query, passages, reply_tokens=room, share=share)
            if not prompt.shown:
                return prompt, None
            reply = await self._engine.chat(
                ChatRequest(prompt.messages, self._max_reply_tokens, max_reasoning_tokens=self._max_reasoning_tokens)
            )
            if reply.finish_reason != "too_long":
                break
        return prompt, reply

    def _failed(self, detail: str) -> GeneratorFailedError:
        # Up to the body of the server's answer, which may repeat what it was sent.
        _log.warning("the generator failed: %s", detail if self._log_errors else detail.partition(" - ")[0])
        return GeneratorFailedError("the generator did not answer; the server's log says why")


def _read(reply: Reply, prompt: Prompt) -> Answered:
    text = _readable(reply.text)
    reason, cited = _support(text, len(prompt.shown), is_cut=reply.finish_reason == "length")
    is_answer = bool(text) and reason != "not_in_passages"
    return Answered(text if is_answer else None, reason, cited, prompt.shown, reply.prompt_tokens, reply.output_tokens)


def _support(text: str, num_shown: int, *, is_cut: bool) -> tuple[Reason | None, tuple[int, ...]]:
    """Why ``text`` is not supported, or the positions that support it."""
    if is_cut:
        # However complete it looks: what would have followed may take it back.
        return "truncated", ()
    if not text:
        return "no_text", ()
    if says_none(text):
        return "not_in_passages", ()
    known = {str(position + 1): position for position in range(num_shown)}
    numbers = find_citations(text)
    if not numbers:
        return "no_citation", ()
    if any(number not in known for number in numbers):
        return "unknown_citation", ()
    return None, tuple(known[number] for number in numbers)


def _readable(text: str) -> str:
    """``text`` without halves of surrogate pairs, which a server may send and UTF-8 cannot carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
