"""A request's id, and one line in the log for each request: who, where, what came of it, how long it took.

The line has the route's template, never the path or the query string, which may hold what nobody should read.
"""

import json
import logging
import re
import secrets
import time
from collections.abc import Iterable
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.api.errors import CLIENT_GONE, ERROR_TYPES
from winnow.api.metrics import Metrics

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request in work, for log lines from anywhere below it."""

_ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_LOGGER = logging.getLogger("winnow.api")


def set_up_log(*, requests: bool) -> None:
    """What the application says goes to standard error: warnings and errors, and with ``requests`` a line for each."""
    _LOGGER.setLevel(logging.INFO if requests else logging.WARNING)
    if not _LOGGER.handlers:
        _LOGGER.addHandler(logging.StreamHandler())


class RequestIds:
    """Gives each request the id in its ``X-Request-ID``, or a new one, and its answer the same."""

    def __init__(self, app: ASGIApp, metrics: Metrics, *, log_queries: bool = False, adds_header: bool = True) -> None:
        self._app = app
        self._metrics = metrics
        self._log_queries = log_queries
        self._adds_header = adds_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = time.perf_counter()
        request_id = _wanted_id(scope["headers"]) or secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = CLIENT_GONE

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if message["type"] == "http.response.start" and self._adds_header:
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        outer = REQUEST_ID.set(request_id)
        try:
            await self._app(scope, receive, named)
        finally:
            REQUEST_ID.reset(outer)
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "-")
        self._metrics.observe("winnow_request_seconds", seconds, route=route, status=str(status))
        if status in ERROR_TYPES:
            self._metrics.count("winnow_errors_total", type=ERROR_TYPES[status])
        if _LOGGER.isEnabledFor(logging.INFO):
            state = scope["state"]
            key_id = state["key"].key_id if state.get("key") else "-"
            line = f"{state['request_id']} {scope['method'][:10]} {route} {status} {1000 * seconds:.1f} ms key={key_id}"
            # As JSON, in which no query can pretend to be a line of its own.
            queries = f" queries={json.dumps(state.get('queries', []))}" if self._log_queries else ""
            _LOGGER.info("%s%s", line, queries)


def _wanted_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode() if _ACCEPTED.fullmatch(value) else None
    return None
