"""Who may ask, and how often. Everything but ``/health`` and ``/ready`` needs a key once keys are in force; without
keys it answers only what was sent to localhost or to a loopback address.

Keys are looked at before the body is read: a stranger costs a comparison. What a key is good for is the route's to
say, with ``require``.
"""

import math
from collections.abc import Iterable

from fastapi import FastAPI, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from winnow.api.config import ApiConfig, is_loopback
from winnow.api.errors import Failures, error_answer, install_error_handlers, refuse
from winnow.api.keys import ApiKey, KeyRing, Scope
from winnow.api.limits import BodyLimit, Deadline, Slots, UnreadBody
from winnow.api.metrics import Metrics
from winnow.api.protocol import Access
from winnow.api.request_ids import RequestIds

_OPEN_PATHS = frozenset({"/health", "/ready"})
_HOW = "send `Authorization: Bearer <key>` or `X-API-Key: <key>`, with a key from `winnow keys create`"


def install_guard(
    app: FastAPI, config: ApiConfig, access: Access, metrics: Metrics, *, behind_serve: bool = False
) -> None:
    """Put ``app`` behind all limits, and make it answer every error as JSON. Each middleware is outside those above it.

    Strangers are refused before they cost a slot or a byte of body; every answer has an id and a line in the log.
    ``behind_serve``: Ray Serve puts the id on answers, and HAProxy stands in front.
    """
    # A redirect would repeat the Host header, which anybody can choose.
    app.router.redirect_slashes = False
    install_error_handlers(app)
    app.add_middleware(BodyLimit, max_bytes=config.max_body_bytes)
    app.add_middleware(Slots, limit=config.max_pending, metrics=metrics)
    app.add_middleware(Authenticate, access=access, rate_per_minute=config.rate_per_minute)
    app.add_middleware(Deadline, timeout_s=config.request_timeout_s)
    app.add_middleware(Failures)
    if behind_serve:
        app.add_middleware(UnreadBody)
    app.add_middleware(RequestIds, metrics=metrics, log_queries=config.log_queries, adds_header=not behind_serve)


class Authenticate:
    """Answers 401 without a key that is in force, 429 to one that asks too often; else notes the key.

    Where no keys are asked for, it answers 403 to what names another host.
    """

    def __init__(self, app: ASGIApp, access: Access, rate_per_minute: float | None) -> None:
        self._app = app
        self._access = access
        self._rate_per_minute = rate_per_minute

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS:
            return await self._app(scope, receive, send)
        try:
            await self._admit(scope)
        except HTTPException as error:
            answer = error_answer(scope, error.status_code, error.detail, headers=error.headers)
            return await answer(scope, receive, send)
        return await self._app(scope, receive, send)

    async def _admit(self, scope: Connection) -> None:
        keys = self._access.keys
        if keys is None:
            _check_host(scope["headers"])
        key = None if keys is None else _find(keys, scope["headers"])
        scope.setdefault("state", {})["key"] = key
        per_minute = key and (key.rate_per_minute or self._rate_per_minute)
        if key is None or per_minute is None:
            return
        if wait_s := await self._access.take(key.key_id, per_minute):
            message = f"this key may make {per_minute:g} requests per minute; try again in {wait_s:.1f} s"
            raise refuse(429, message, headers={"Retry-After": str(max(1, math.ceil(wait_s)))})


class _Required(SecurityBase):
    """A dependency of a route; FastAPI finds in it what to write into the OpenAPI description."""

    model = HTTPBearer(description="A key from `winnow keys create`. `X-API-Key` works as well.")
    scheme_name = "ApiKey"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> None:
        # Without ``Authenticate`` there is no "key", and nobody gets in.
        key: ApiKey | None = request.scope["state"]["key"]
        if key is None and self._scope == "admin":
            raise refuse(
                403, "administration needs keys: make one with `winnow keys create` and name the file in serve.keys"
            )
        if key is not None and not key.allows(self._scope):
            raise refuse(403, f"key {key.key_id} is not good for {self._scope}; use one with the scope {self._scope}")


def require(scope: Scope) -> _Required:
    """A dependency for ``Depends`` that refuses keys without ``scope``. Without keys in force, search is free."""
    return _Required(scope)


def _check_host(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse what was sent to another name than localhost.

    A web page can have its own name lead to 127.0.0.1 (DNS rebinding) and then read the answers, as from its server.
    """
    for name, value in headers:
        if name == b"host" and not is_loopback(host := _without_port(value.decode("latin-1"))):
            raise refuse(
                403,
                f"without keys, only requests to localhost or 127.0.0.1 are answered, got Host {ascii(host)[:80]}; "
                f"make a key with `winnow keys create` and name the file in serve.keys",
            )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".").lower()


def _find(keys: KeyRing, headers: Iterable[tuple[bytes, bytes]]) -> ApiKey:
    key = keys.find(_token(headers))
    if key is None:
        raise _unauthorized("this key is not known, or was revoked")
    return key


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = [(name, value) for name, value in headers if name in (b"authorization", b"x-api-key")]
    if not given:
        raise _unauthorized("a key is needed")
    if len(given) > 1:
        raise _unauthorized("several keys were sent, expected one")
    name, value = given[0]
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            raise _unauthorized("the Authorization header has another scheme than Bearer")
    return value.strip().decode("latin-1")


def _unauthorized(what: str) -> HTTPException:
    return refuse(401, f"{what}; {_HOW}", headers={"WWW-Authenticate": 'Bearer realm="winnow"'})
