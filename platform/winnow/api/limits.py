"""How much, how long and how many: limits on a request's body, on its time, and on the requests in work."""

import asyncio
import logging

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.api.errors import WatchedSend, error_answer, refuse
from winnow.api.metrics import Metrics

_SURELY_ARRIVED = 8_192
"""Bytes of a request, headers and all, that HAProxy's buffer (16 KiB) always holds before they are passed on."""

_LOGGER = logging.getLogger("winnow.api")


class BodyLimit:
    """Refuses a request body beyond ``max_bytes``: by its declared length unread, else as it arrives."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            if received == 0:
                self._check(_declared_length(scope))
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        return await self._app(scope, counted, send)

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise refuse(413, f"the body is larger than {self._max_bytes} bytes; send fewer queries per request")


class Deadline:
    """Answers 408 and stops the work on a request after ``timeout_s``, however slowly its body comes."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        watched = WatchedSend(send)
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                scope.setdefault("state", {})["deadline"] = deadline
                await self._app(scope, receive, watched)
        except TimeoutError:
            if not deadline.expired():
                raise
            await self._give_up(scope, receive, send, has_started=watched.has_started)

    async def _give_up(self, scope: Scope, receive: Receive, send: Send, *, has_started: bool) -> None:
        if has_started:
            # The server closes the connection on an answer without an end.
            _LOGGER.warning("an answer was not read within %g s and was broken off", self._timeout_s)
            return
        message = f"no answer within {self._timeout_s:g} s; send fewer queries per request, or the body faster"
        # The rest of a slow body is not waited for.
        await error_answer(scope, 408, message, headers={"Connection": "close"})(scope, receive, send)


class UnreadBody:
    """Closes the connection of an answer that is given before its request's large body was read.

    HAProxy would else go on taking the rest from the client, and count the request as in work for as long as it
    comes. What fits its buffer has arrived whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_large(scope):
            return await self._app(scope, receive, send)
        is_read = False

        async def noted() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_read:
                others = [header for header in message.get("headers", ()) if header[0].lower() != b"connection"]
                message["headers"] = [*others, (b"connection", b"close")]
            await send(message)

        return await self._app(scope, noted, closing)


def lift_deadline(request: Request) -> None:
    """Let ``request`` take as long as it wants from now on; its body has arrived already."""
    request.state.deadline.reschedule(None)


class Slots:
    """Refuses a request at once while ``limit`` others are in work, instead of letting it queue without end.

    A request takes its slot when its body has arrived whole: a slow client holds none, and what has no body (health,
    metrics) needs none. Administration needs none either, because going back to another version must always work.
    """

    def __init__(self, app: ASGIApp, limit: int, metrics: Metrics) -> None:
        self._app = app
        self._limit = limit
        self._metrics = metrics
        self._taken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/v1/admin/"):
            return await self._app(scope, receive, send)
        has_slot = False

        async def admitted() -> Message:
            nonlocal has_slot
            if has_slot:
                return await receive()
            self._check()
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                self._check()
                has_slot = True
                self._count(1)
            return message

        try:
            await self._app(scope, admitted, send)
        finally:
            if has_slot:
                self._count(-1)

    def _check(self) -> None:
        if self._taken >= self._limit:
            raise refuse(503, f"{self._limit} requests are in work already; try again", headers={"Retry-After": "1"})

    def _count(self, change: int) -> None:
        self._taken += change
        self._metrics.set("winnow_pending_requests", self._taken)


def _is_large(scope: Scope) -> bool:
    if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        return True
    length = _declared_length(scope)
    return length > 0 and length + sum(len(name) + len(value) for name, value in scope["headers"]) > _SURELY_ARRIVED


def _declared_length(scope: Scope) -> int:
    # Python refuses to read very long numbers; the first digits are enough.
    lengths = [int(value[:18]) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]
    return max(lengths, default=0)
