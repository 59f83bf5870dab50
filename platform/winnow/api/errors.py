"""Every refusal as JSON, with a type from a closed set that follows from the status code."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from winnow.api.models import ErrorResponse, ErrorType, Problem

_TYPES: Mapping[int, ErrorType] = {
    400: "invalid_json",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    422: "invalid_request",
    500: "internal",
    503: "overloaded",
}
_MAX_SHOWN = 80


def refuse(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> HTTPException:
    """The exception that answers a request with ``status``; raise it."""
    return HTTPException(status, message, headers=dict(headers or {}))


def install_error_handlers(app: FastAPI) -> None:
    """Make ``app`` answer every error with an ``ErrorResponse``."""
    app.add_exception_handler(StarletteHTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_bug)


def describe_errors() -> dict[int | str, dict[str, Any]]:
    """The error answers, for the OpenAPI description."""
    return {status: {"model": ErrorResponse, "description": type_} for status, type_ in _TYPES.items()}


class BodyLimit:
    """Refuses a request body beyond ``max_bytes`` as it arrives, whatever length was declared."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise refuse(413, f"the body is larger than {self._max_bytes} bytes; send fewer queries per request")
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)


async def _on_http_exception(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    message = _explain_status(error)
    return _answer(error.status_code, message, headers=error.headers)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return _answer(400, f"the body is not JSON: {_reason(problems[0])}")
    return _answer(422, "; ".join(map(_explain_field, problems)))


async def _on_bug(_: Request, error: Exception) -> JSONResponse:
    # The server logs the traceback; what failed inside is not the caller's to read.
    return _answer(500, f"the search failed inside the server ({type(error).__name__}); its log has the details")


def _answer(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    problem = Problem(type=_TYPES.get(status, "invalid_request"), message=message)
    return JSONResponse(ErrorResponse(error=problem).model_dump(), status_code=status, headers=dict(headers or {}))


def _explain_status(error: StarletteHTTPException) -> str:
    match error.status_code:
        case 400:
            return "the body is not JSON in UTF-8"
        case 404:
            return "there is nothing at this path; expected POST /v1/search, GET /health or GET /info"
        case 405:
            return "this path does not take this method; expected POST /v1/search, GET /health or GET /info"
        case _:
            return str(error.detail)


def _reason(problem: Mapping[str, Any]) -> str:
    return str((problem.get("ctx") or {}).get("error", problem["msg"]))


def _explain_field(problem: Mapping[str, Any]) -> str:
    where = _where(problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a known field; expected queries and k"
    # ascii() keeps what JSON cannot carry (lone surrogates) out of the answer.
    return f"{where}: {problem['msg']}, got {ascii(problem['input'])[:_MAX_SHOWN]}"


def _where(location: Sequence[int | str]) -> str:
    inside = [str(part) for part in location if part != "body"]
    return ".".join(ascii(part)[1:-1][:_MAX_SHOWN] for part in inside) or "the body"
