"""The two clients: what differs is how they send and how they wait. Their methods are the functions of ``calls.py``."""

import asyncio
import inspect
import os
import re
import struct
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar, get_args

import httpx

from winnow.client import calls
from winnow.client.calls import Call
from winnow.client.deadlines import client_with_deadlines, within
from winnow.client.results import ServiceError
from winnow.client.retries import Attempts, Outcome, RetryPolicy
from winnow.errors import ConfigError

KEY_VARIABLE = "WINNOW_API_KEY"
_KEY = re.compile(r"[!-~]+")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class _Client:
    """Address, key and patience of a client. See ``WinnowClient``."""

    _sender: ClassVar[Callable[..., httpx.Client | httpx.AsyncClient]]

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30,
        retries: int = 4,
        pause_s: float = 0.2,
        transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = _without_password(base_url)
        self._policy = RetryPolicy(retries, pause_s, timeout_s)
        # Proxy settings of the environment would send loopback traffic elsewhere.
        self._http: Any = self._sender(
            base_url=base_url, headers=_headers(api_key), trust_env=False, transport=transport
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address!r})"

    def _conclude(self, call: Call[Result], outcome: Outcome) -> Result:
        try:
            return _read(call, outcome, f"{self._address}{call.path}")
        except ServiceError:
            if call.on_failure is None:
                raise
            return call.on_failure


def _blocking(build: Callable[Arguments, Call[Result]]) -> "Callable[Concatenate[WinnowClient, Arguments], Result]":
    @wraps(build)
    def method(self: "WinnowClient", *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._carry_out(build(*args, **kwargs))

    return _as_method(method, build)


def _awaiting(
    build: Callable[Arguments, Call[Result]],
) -> "Callable[Concatenate[AsyncWinnowClient, Arguments], Awaitable[Result]]":
    @wraps(build)
    async def method(self: "AsyncWinnowClient", *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return await self._carry_out(build(*args, **kwargs))

    return _as_method(method, build)


def _as_method(method: Any, build: Callable[..., Call]) -> Any:
    """``method`` with the signature that ``help`` and editors show: with self, and with the result's own type."""
    shown = inspect.signature(build)
    receiver = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = shown.replace(
        parameters=[receiver, *shown.parameters.values()], return_annotation=get_args(shown.return_annotation)[0]
    )
    return method


class WinnowClient(_Client):
    """Searches a served retriever. Safe to share between threads; close it, or use it in a ``with`` block.

    The key is ``api_key`` or the environment's ``WINNOW_API_KEY``. A refused connection, 429 and 503 are tried again
    up to ``retries`` times, after the pause that the service asks for or a growing one, and so are 408 and a lost
    connection; all of it within ``timeout_s``, also where an answer drips. Every other error is raised at once: it
    would come back the same. ``transport`` replaces httpx's own, for a proxy or certificates; one that is no
    ``httpx.HTTPTransport`` has to keep the time by itself.
    """

    _sender = staticmethod(client_with_deadlines)

    search = _blocking(calls.search)
    search_one = _blocking(calls.search_one)
    embed = _blocking(calls.embed)
    answer = _blocking(calls.answer)
    health = _blocking(calls.health)
    ready = _blocking(calls.ready)
    info = _blocking(calls.info)
    versions = _blocking(calls.versions)
    swap = _blocking(calls.swap)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, call: Call[Result]) -> Result:
        attempts = Attempts(call, self._policy)
        while (pause_s := attempts.pause_after(outcome := self._send(call, attempts.remaining_s))) is not None:
            time.sleep(pause_s)
        return self._conclude(call, outcome)

    def _send(self, call: Call, timeout_s: float) -> Outcome:
        try:
            with within(timeout_s):
                return self._http.request(call.method, call.path, content=call.content, timeout=timeout_s)
        except httpx.RequestError as error:
            return error


class AsyncWinnowClient(_Client):
    """``WinnowClient`` for asyncio: the same arguments, the same methods to await, ``async with`` and ``aclose``."""

    _sender = httpx.AsyncClient

    search = _awaiting(calls.search)
    search_one = _awaiting(calls.search_one)
    embed = _awaiting(calls.embed)
    answer = _awaiting(calls.answer)
    health = _awaiting(calls.health)
    ready = _awaiting(calls.ready)
    info = _awaiting(calls.info)
    versions = _awaiting(calls.versions)
    swap = _awaiting(calls.swap)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _carry_out(self, call: Call[Result]) -> Result:
        attempts = Attempts(call, self._policy)
        while (pause_s := attempts.pause_after(outcome := await self._send(call, attempts.remaining_s))) is not None:
            await asyncio.sleep(pause_s)
        return self._conclude(call, outcome)

    async def _send(self, call: Call, timeout_s: float) -> Outcome:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._http.request(call.method, call.path, content=call.content, timeout=timeout_s)
        except TimeoutError:
            return httpx.ReadTimeout("timed out")
        except httpx.RequestError as error:
            return error


def _without_password(base_url: str) -> str:
    return str(httpx.URL(base_url).copy_with(userinfo=b"")).rstrip("/")


def _headers(api_key: str | None) -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if not key:
        return headers
    if not _KEY.fullmatch(key):
        # Checked here, because httpx would show the key in its error.
        raise ConfigError(
            f"the API key (not shown) has a blank, a line break or a letter beyond ASCII; "
            f"copy it again from `winnow keys create`, into {KEY_VARIABLE} or `api_key`"
        )
    return {**headers, "Authorization": f"Bearer {key}"}


def _read(call: Call[Result], outcome: Outcome, url: str) -> Result:
    """The result in ``outcome``. Raises ``ServiceError``."""
    if isinstance(outcome, httpx.ReadTimeout | httpx.WriteTimeout):
        raise ServiceError(
            f"no whole answer from {url} within the client's timeout_s; ask for less at a time, or raise timeout_s"
        ) from outcome
    if isinstance(outcome, httpx.RequestError):
        raise ServiceError(
            f"no answer from {url} ({type(outcome).__name__}: {outcome}); "
            f"start it with `winnow serve --config ...`, or correct the address"
        ) from outcome
    if outcome.status_code != 200:
        raise _refusal(outcome, url)
    try:
        return call.read(outcome.json())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise ServiceError(
            f"{url} answered 200, but not as Winnow does ({type(error).__name__}: {error}): {outcome.text[:80]!r}; "
            f"is the address that of a Winnow service?",
            status=200,
        ) from error


def _refusal(reply: httpx.Response, url: str) -> ServiceError:
    request_id = reply.headers.get("X-Request-ID")
    try:
        problem = reply.json()["error"]
        kind, message = problem["type"], problem["message"]
        request_id = problem.get("request_id", request_id)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not our application: a proxy in between, or another service on that port.
        kind, message = None, reply.text[:200]
    named = f" (request {request_id})" if request_id else ""
    return ServiceError(
        f"{url} answered {reply.status_code}: {message}{named}",
        status=reply.status_code,
        type=kind,
        request_id=request_id,
    )
