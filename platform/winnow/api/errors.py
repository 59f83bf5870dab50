"""Every refusal as JSON, with a type from a closed set that follows from the status code.

A message names what is wrong and the way out. Of what came in it repeats 80 characters at most, escaped.
"""

import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.api.protocol import NotReadyError, SwapBusyError, SwapRefusedError, TextTooLongError
from winnow.errors import DataError, IndexMismatchError

ErrorType = Literal[
    "invalid_json",
    "unauthorized",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "timeout",
    "body_too_large",
    "invalid_request",
    "dependency_failed",
    "rate_limited",
    "internal",
    "overloaded",
]

ERROR_TYPES: Mapping[int, ErrorType] = {
    400: "invalid_json",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "body_too_large",
    422: "invalid_request",
    424: "dependency_failed",
    429: "rate_limited",
    500: "internal",
    503: "overloaded",
}
CLIENT_GONE = 499
"""Status in the log of a request whose client went away before the answer; nobody receives it."""

_RETRY_AFTER_S = {NotReadyError: 1, SwapBusyError: 5}
_MAX_SHOWN = 80
_MAX_PROBLEMS = 3
_MAX_MESSAGE = 1000
_LOGGER = logging.getLogger("winnow.api")


class Problem(BaseModel):
    """Why a request was not answered."""

    type: ErrorType
    message: str
    request_id: str | None = None


class ErrorResponse(BaseModel):
    """Body of every answer that is not 200."""

    error: Problem


def refuse(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> HTTPException:
    """The exception that answers a request with ``status``; raise it."""
    return HTTPException(status, message, headers=dict(headers or {}))


def error_answer(scope: Scope, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """The answer itself, for middlewares, which stand outside of what handles exceptions."""
    problem = {
        "type": ERROR_TYPES.get(status, "invalid_request" if status < 500 else "internal"),
        # JSON cannot carry lone surrogates, which may have come in with the request.
        "message": message[:_MAX_MESSAGE].encode("utf-8", "backslashreplace").decode(),
        "request_id": scope.get("state", {}).get("request_id"),
    }
    body = json.dumps({"error": problem}, ensure_ascii=False).encode()
    return Response(body, status, dict(headers or {}), media_type="application/json")


def describe_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers with these statuses, for the OpenAPI description."""
    return {status: {"model": ErrorResponse, "description": ERROR_TYPES[status]} for status in statuses}


def install_error_handlers(app: FastAPI) -> None:
    """Make ``app`` answer every error that its routes raise with an ``ErrorResponse``; ``Failures`` does the rest."""
    app.add_exception_handler(StarletteHTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_exception_handler(DataError, _on_data_error)
    app.add_exception_handler(TextTooLongError, _on_text_too_long)
    app.add_exception_handler(SwapRefusedError, _on_swap_refused)
    app.add_exception_handler(SwapBusyError, _on_not_now)
    app.add_exception_handler(NotReadyError, _on_not_now)


class WatchedSend:
    """``send`` that remembers whether an answer has begun: it cannot be taken back then."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        self.has_started = True
        await self._send(message)


class Failures:
    """Answers 500 for a bug and logs where it was, without the exception's text, which may quote a query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        watched = WatchedSend(send)
        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            _log_failure(scope, error)
            # The server closes the connection on what is missing of an answer that has begun.
            if not watched.has_started:
                await error_answer(scope, 500, _explain_failure(error))(scope, receive, send)


def _log_failure(scope: Scope, error: Exception) -> None:
    frames = "".join(traceback.format_tb(error.__traceback__))
    request_id = scope.get("state", {}).get("request_id")
    _LOGGER.error("request %s failed with %s\n%s", request_id, type(error).__name__, frames)


def _explain_failure(error: Exception) -> str:
    return f"the request failed inside the server ({type(error).__name__}); its log has the details"


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    headers = dict(error.headers or {})
    message = str(error.detail)
    # What the framework raises is told apart by its wording; our own refusals explain themselves.
    match error.status_code, message:
        case 404, "Not Found":
            message = f"there is nothing at this path; expected {', '.join(_operations(request))}"
        case 405, "Method Not Allowed":
            # Starlette names the methods of one route; there may be several at a path.
            headers["Allow"] = _allowed(request) or headers["Allow"]
            message = f"this path does not take this method; expected {headers['Allow']}"
    return error_answer(request.scope, error.status_code, message, headers=headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    shown = [_explain_field(problem) for problem in problems[:_MAX_PROBLEMS]]
    more = [f"and {len(problems) - _MAX_PROBLEMS} more"] if len(problems) > _MAX_PROBLEMS else []
    return error_answer(request.scope, 422, "; ".join(shown + more))


async def _on_client_gone(_: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)


async def _on_data_error(request: Request, error: Exception) -> Response:
    if isinstance(error, IndexMismatchError):
        # The version is broken, which the caller cannot help.
        raise error
    return error_answer(request.scope, 422, str(error))


async def _on_text_too_long(request: Request, error: Exception) -> Response:
    return error_answer(request.scope, 413, str(error))


async def _on_swap_refused(request: Request, error: Exception) -> Response:
    return error_answer(request.scope, 424, str(error))


async def _on_not_now(request: Request, error: Exception) -> Response:
    return error_answer(request.scope, 503, str(error), headers={"Retry-After": str(_RETRY_AFTER_S[type(error)])})


def _operations(request: Request) -> list[str]:
    paths = request.app.openapi()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def _allowed(request: Request) -> str:
    methods = request.app.openapi()["paths"].get(request.url.path, {})
    return ", ".join(sorted(method.upper() for method in methods))


def _explain_field(problem: Mapping[str, Any]) -> str:
    where = _where(problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a known field; /openapi.json lists those that are"
    return f"{where}: {problem['msg']}, got {_show(problem['input'])}"


def _where(location: Sequence[int | str]) -> str:
    inside = [str(part) for part in location if part != "body"]
    return ascii(".".join(inside)[:_MAX_SHOWN])[1:-1][:_MAX_SHOWN] or "the body"


def _show(value: Any) -> str:
    """``value`` in 80 characters. Lists and objects only by kind: to print a deep one could exhaust the stack."""
    match value:
        case str():
            return ascii(value[:_MAX_SHOWN])[:_MAX_SHOWN]
        case bool() | float() | None:
            return json.dumps(value)
        case int():
            # Python refuses to print very long numbers.
            return str(value) if value.bit_length() < 64 else f"a number of {value.bit_length()} bits"
        case list():
            return f"a list of {len(value)}"
        case _:
            return "an object"
