"""A model behind an OpenAI-compatible HTTP server, such as vLLM's own."""

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from winnow.engines.answers import (
    RefusedError,
    ServerError,
    ServerTooLongError,
    failed_likelihood,
    failed_reply,
    refuse_cached,
)
from winnow.engines.chat_template import ALWAYS_THINKS, fold_system, turns_of
from winnow.engines.config import ServerConfig
from winnow.engines.dialect import Dialect
from winnow.engines.protocol import ChatRequest, Likelihood, LikelihoodRequest, Message, Reply
from winnow.engines.reasoning import split_reasoning
from winnow.engines.served_template import ServedTemplate
from winnow.engines.server_connection import ServerConnection
from winnow.errors import ConfigError

_log = logging.getLogger(__name__)

_CHARACTERS_PER_TOKEN = 3
_TOKENS_PER_TURN = 8


class ServerEngine:
    """Asks a server. Likelihoods need one that gives log probabilities of the prompt, as vLLM's does."""

    def __init__(self, config: ServerConfig) -> None:
        """Raises ``ConfigError`` if the server cannot be reached, or does not serve the model."""
        self.model_id = config.model
        self.max_tokens = config.max_tokens
        self._config = config
        self._connection = ServerConnection(config)
        self._template = ServedTemplate.ask(self._connection, config)
        self._dialect = Dialect(is_vllm=self._connection.is_vllm, takes_system=self._template.takes_system)
        self._has_warned = False

    async def chat(self, request: ChatRequest) -> Reply:
        """The model's next turn. ``pattern`` goes along in vLLM's words if the server takes them."""
        try:
            answer, seconds = await self._complete_chat(request)
            return self._reply(request, answer, seconds)
        except Exception as error:
            return failed_reply(error)

    def check_chat(self, *, thinks: bool) -> None:
        """Asks one short question. Raises ``ConfigError`` if it is refused, or the model thinks and has no room to."""
        if self._template.always_thinks and not thinks:
            raise ConfigError(ALWAYS_THINKS)
        question = (Message("system", "Be brief."), Message("user", "Say yes."))
        try:
            asyncio.run(self._complete_chat(ChatRequest(question, 16, max_reasoning_tokens=16 * thinks)))
        except RefusedError as refusal:
            raise ConfigError(f"the server at {self._config.base_url} refuses what a judge asks: {refusal}") from None
        except ServerError:
            return  # away or busy: requests are tried again, and counted if they fail

    async def likelihood(self, request: LikelihoodRequest) -> Likelihood:
        """How likely the continuation is."""
        try:
            return await self._score(request)
        except Exception as error:
            return failed_likelihood(error)

    async def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; a token for every 3 characters, rounded up, if the server has no ``/tokenize``."""
        if not self._connection.can_tokenise:
            return [math.ceil(len(text) / _CHARACTERS_PER_TOKEN) for text in texts]
        tokenise = self._connection.tokenise
        found = await asyncio.gather(*(tokenise(self._text_body(text, special=False)) for text in texts))
        return [len(tokens) for tokens in found]

    async def count_prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of ``messages`` in the model's chat template, or an estimate as in ``count_tokens``."""
        if not self._connection.can_tokenise:
            texts = [message.content for message in messages]
            return sum(await self.count_tokens(texts)) + _TOKENS_PER_TURN * (len(texts) + 1)
        if not self._dialect.takes_system:
            messages = fold_system(messages)
        body = {"model": self.model_id, "messages": turns_of(messages)}
        settings = self._dialect.template_settings(self._config, thinks=False)
        return len(await self._connection.tokenise({**body, "chat_template_kwargs": settings}))

    def close(self) -> None:
        """Nothing runs here; the server stays."""
        self._connection.close()

    async def _complete_chat(self, request: ChatRequest) -> tuple[Any, float]:
        while True:
            spoken = self._dialect
            try:
                return await self._send_chat(request, spoken)
            except ServerTooLongError:
                raise
            except RefusedError as refusal:
                if spoken.after(str(refusal), self._config) == spoken:
                    return await self._send_without_pattern(request, spoken, refusal)
                # Other requests may have learned something else meanwhile.
                self._dialect = self._dialect.after(str(refusal), self._config)
                _log.warning("the server refused a request; the next ones are sent as it wants them: %s", refusal)

    async def _send_without_pattern(
        self, request: ChatRequest, spoken: Dialect, refusal: RefusedError
    ) -> tuple[Any, float]:
        """This request once more without its pattern, in case that was the reason; others keep theirs."""
        if request.pattern is None or not spoken.obeys_pattern(request, self._config):
            raise refusal
        answer = await self._send_chat(replace(request, pattern=None), spoken)
        if not self._has_warned:
            _log.warning("the server refused a pattern, so that request went without: %s", refusal)
            self._has_warned = True
        return answer

    async def _send_chat(self, request: ChatRequest, spoken: Dialect) -> tuple[Any, float]:
        pattern = request.pattern if spoken.obeys_pattern(request, self._config) else None
        fields = spoken.fields(request, self._config)
        extra = spoken.extra_fields(request, self._config, pattern=pattern)
        return await self._connection.send(lambda client: client.chat.completions.create(**fields, extra_body=extra))

    def _reply(self, request: ChatRequest, answer: Any, seconds: float) -> Reply:
        (choice,) = answer.choices
        if choice.finish_reason not in ("stop", "length"):
            raise ServerError(f"the server ended the reply with {choice.finish_reason!r}, expected 'stop' or 'length'")
        message, usage = choice.message, answer.usage
        reasoning, text = self._split(request, message)
        return Reply(
            text=text,
            finish_reason=choice.finish_reason,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            cached_tokens=_cached_tokens(usage),
            output_tokens=usage.completion_tokens if usage else 0,
            seconds=seconds,
            reasoning=reasoning,
        )

    def _split(self, request: ChatRequest, message: Any) -> tuple[str | None, str]:
        """What was thought and said: as the server tells them apart, or else as we do."""
        served = [getattr(message, name, None) for name in ("reasoning", "reasoning_content")]
        thoughts = [thought for thought in served if thought is not None]
        splits_itself = bool(thoughts) or self._config.reasoning_parser is not None
        is_open = not splits_itself and self._template.opens_thought(thinks=request.thinks)
        thought, said = split_reasoning(message.content or "", self._template.parser, is_open=is_open)
        return "\n".join(filter(None, [*thoughts[:1], thought])) or None, said

    async def _score(self, request: LikelihoodRequest) -> Likelihood:
        if self._connection.can_tokenise:
            # As ids, tokenised apart, so the boundary is exact.
            context = await self._connection.tokenise(self._text_body(request.context, special=True))
            continuation = await self._connection.tokenise(self._text_body(request.continuation, special=False))
            answer, seconds = await self._send_prompt(context + continuation)
            return _likelihood(answer, _prompt_logprobs(answer)[len(context) :], seconds)
        answer, seconds = await self._send_prompt(request.context + request.continuation)
        num_tokens = _num_last_tokens(_prompt_tokens(answer), request.continuation)
        return _likelihood(answer, _prompt_logprobs(answer)[-num_tokens:], seconds)

    async def _send_prompt(self, prompt: str | list[int]) -> tuple[Any, float]:
        """The prompt with its log probabilities. One token is written: not every server takes ``max_tokens=0``."""
        return await self._connection.send(
            lambda client: client.completions.create(
                model=self.model_id,
                prompt=prompt,
                echo=True,
                logprobs=1,
                max_tokens=1,
                temperature=0,
                extra_body=self._config.extra_body,
            )
        )

    def _text_body(self, text: str, *, special: bool) -> dict[str, Any]:
        return {"model": self.model_id, "prompt": text, "add_special_tokens": special}


def _likelihood(answer: Any, logprobs: Sequence[float | None], seconds: float) -> Likelihood:
    if not logprobs or None in logprobs:
        raise ServerError("expected a context and a continuation of at least one token each")
    refuse_cached(_cached_tokens(answer.usage))
    return Likelihood(
        mean_logprob=sum(logprobs) / len(logprobs),
        num_continuation_tokens=len(logprobs),
        prompt_tokens=answer.usage.prompt_tokens,
        cached_tokens=0,
        output_tokens=answer.usage.completion_tokens,
        seconds=seconds,
    )


def _cached_tokens(usage: Any) -> int:
    details = getattr(usage, "prompt_tokens_details", None)
    return getattr(details, "cached_tokens", None) or 0


def _prompt_logprobs(answer: Any) -> list[float | None]:
    logprobs = _logprobs(answer).token_logprobs
    return logprobs[: len(logprobs) - answer.usage.completion_tokens]


def _prompt_tokens(answer: Any) -> list[str]:
    tokens = _logprobs(answer).tokens
    return tokens[: len(tokens) - answer.usage.completion_tokens]


def _logprobs(answer: Any) -> Any:
    (choice,) = answer.choices
    if choice.logprobs is None or len(choice.logprobs.tokens) <= answer.usage.completion_tokens:
        raise ServerError(
            "the server gives no log probabilities of the prompt (echo with logprobs); likelihoods need one that does"
        )
    return choice.logprobs


def _num_last_tokens(tokens: Sequence[str], text: str) -> int:
    """How many tokens at the end make up ``text``. Offsets are no help: special tokens shift them.

    Where the server shows tokens without their leading space, the spaces around are left out of the comparison.

    >>> _num_last_tokens(["<s>", "by", ":", " when", " was"], " when was")
    2
    """
    tail, without_space = "", None
    for number, token in enumerate(reversed(tokens), start=1):
        tail = token + tail
        if tail == text:
            return number
        if without_space is None and tail.strip() == text.strip():
            without_space = number
        if len(tail) > len(text):
            break
    if without_space is None:
        raise ServerError(f"no token of the server's begins where the continuation {text[:40]!r} does")
    return without_space
