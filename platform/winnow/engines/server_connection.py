"""The way to an OpenAI-compatible server: how many requests, how fast, what is tried again, and what errors mean.

Connection errors, timeouts, 408, 409, 429 and 5xx are repeated by the ``openai`` package, with growing pauses or as
long as the server says in ``Retry-After``.
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, OpenAI, OpenAIError

from winnow.engines.answers import RefusedError, ServerError, ServerTooLongError
from winnow.engines.config import ServerConfig
from winnow.engines.meter import BusyMeter
from winnow.errors import ConfigError

AnswerT = TypeVar("AnswerT")

_TOO_LONG = re.compile(
    r"context.(length|size|window)|(prompt|input) is too long|too many (input )?tokens", re.IGNORECASE
)


class ServerConnection:
    """Sends requests to one server, a limited number at a time."""

    def __init__(self, config: ServerConfig) -> None:
        """Asks the server for its models; raises ``ConfigError`` if it cannot be used as configured."""
        self._key = _read_key(config.api_key_variable)
        # A key is always given: without one the package would send whatever OPENAI_API_KEY holds.
        self._settings = {
            "api_key": self._key or "none",
            "max_retries": config.max_retries,
            "timeout": config.timeout_s,
        }
        self._root = config.base_url.rstrip("/").removesuffix("/v1")
        with _usable_proxy():
            self._blocking = OpenAI(base_url=config.base_url, **self._settings)
            self._client = AsyncOpenAI(base_url=config.base_url, **self._settings)
        self._places = asyncio.Semaphore(config.requests_in_flight)
        self._places_to_tokenise = asyncio.Semaphore(config.requests_in_flight)
        self._pace = _Pace(config.requests_per_minute)
        self._meter = BusyMeter()
        self._check(config)
        self.can_tokenise = self._try_to_tokenise(config.model)

    async def send(self, call: Callable[[AsyncOpenAI], Awaitable[AnswerT]]) -> tuple[AnswerT, float]:
        """The answer to ``call``, and its share of the time that requests were under way. Raises ``ServerError``."""
        async with self._places:
            await self._pace.wait()
            mark = self._meter.start()
            try:
                answer = await call(self._client)
            except OpenAIError as error:
                raise self._translated(error) from None
            finally:
                seconds = self._meter.stop(mark)
            return answer, seconds

    async def tokenise(self, body: Mapping[str, Any]) -> list[int]:
        """Token ids, by vLLM's ``/tokenize``. Takes a place of its own: it does not wait for the model."""
        client = self._client.with_options(base_url=self._root)
        async with self._places_to_tokenise:
            try:
                answer: Any = await client.post("/tokenize", cast_to=object, body=body)
            except OpenAIError as error:
                raise self._translated(error) from None
        return answer["tokens"]

    def render(self, body: Mapping[str, Any]) -> list[str]:
        """The texts of the tokens that a chat becomes, as ``/tokenize`` gives them; blocks. Raises ``ServerError``."""
        try:
            answer: Any = self._tokenise_now({**body, "return_token_strs": True})
        except OpenAIError as error:
            raise self._translated(error) from None
        return answer.get("token_strs") or [""] * len(answer["tokens"])

    def _try_to_tokenise(self, model: str) -> bool:
        try:
            return bool(self._tokenise_now({"model": model, "prompt": "one word"})["tokens"])
        except (OpenAIError, KeyError, TypeError):
            return False

    def _tokenise_now(self, body: Mapping[str, Any]) -> Any:
        return self._blocking.with_options(base_url=self._root).post("/tokenize", cast_to=object, body=body)

    def _check(self, config: ServerConfig) -> None:
        try:
            served = {model.id: model for model in self._blocking.models.list()}
        except OpenAIError as error:
            raise ConfigError(self._explain_unusable(error, config)) from None
        except (AttributeError, TypeError, ValueError):
            raise ConfigError(
                f"{config.base_url} does not answer as an OpenAI-compatible server does; "
                f"engine.base_url usually ends in /v1"
            ) from None
        if config.model not in served:
            raise ConfigError(
                f"the server at {config.base_url} serves {sorted(served)[:20]}, expected {config.model!r} "
                f"(engine.model) among them"
            )
        self.is_vllm = getattr(served[config.model], "owned_by", None) == "vllm"
        longest = getattr(served[config.model], "max_model_len", None)
        if isinstance(longest, int) and longest < config.max_tokens:
            raise ConfigError(
                f"the server at {config.base_url} takes {longest} tokens of prompt and reply, fewer than "
                f"engine.max_tokens, {config.max_tokens}; lower it"
            )

    def _explain_unusable(self, error: OpenAIError, config: ServerConfig) -> str:
        where = f"the server at {config.base_url}"
        if isinstance(error, APIConnectionError):
            return f"{where} cannot be reached ({self._describe(error)}); check engine.base_url and that it is running"
        status = error.status_code if isinstance(error, APIStatusError) else None
        if status in (401, 403):
            name = config.api_key_variable
            holder = f"the key in {name}" if name else "a request without a key; set engine.api_key_variable"
            return f"{where} refuses {holder} (status {status})"
        if status == 404:
            return f"{where} has no /models (status 404); engine.base_url usually ends in /v1"
        return f"{where} cannot list its models: {self._describe(error)}"

    def _translated(self, error: OpenAIError) -> ServerError:
        text = self._describe(error)
        if not isinstance(error, APIStatusError) or error.status_code not in (400, 413, 422):
            return ServerError(text)
        if _TOO_LONG.search(text):
            return ServerTooLongError(f"{text}; engine.max_tokens has to be what the server takes, or less")
        return RefusedError(text)

    def _describe(self, error: OpenAIError) -> str:
        """The error and its cause, with the key cut out should the server have repeated it."""
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        text = " ".join(f"{error}{cause}".split())
        return (text.replace(self._key, "[key]") if self._key else text)[:400]

    def close(self) -> None:
        """Close what can be closed without an event loop; the rest goes with the process."""
        self._blocking.close()


class _Pace:
    """Spaces requests evenly: at most ``per_minute`` of them."""

    def __init__(self, per_minute: int | None) -> None:
        self._interval_s = 60 / per_minute if per_minute else 0.0
        self._next_at = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        start_at = max(now, self._next_at)
        self._next_at = start_at + self._interval_s
        await asyncio.sleep(start_at - now)


@contextmanager
def _usable_proxy() -> Iterator[None]:
    """``ConfigError`` if the environment names a proxy that httpx cannot use, such as SOCKS without its package."""
    try:
        yield
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"the proxy that ALL_PROXY, HTTPS_PROXY or HTTP_PROXY names cannot be used ({error}); unset it, set "
            f"NO_PROXY='*' for this command, or install what it needs: pip install socksio"
        ) from error


def _read_key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"engine.api_key_variable names {variable!r}, which is not set here; put the key into it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"what {variable!r} holds is no key: it has spaces, line ends or other signs within")
    return key
