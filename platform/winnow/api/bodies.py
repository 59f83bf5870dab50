"""Request bodies in, answers out, each exactly once: bytes to a checked model, plain values to bytes.

FastAPI would parse with one library and check with another, and check what we answer once more. ``describe_body``
tells the OpenAPI description what it cannot see then.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jiter
import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from winnow.api.errors import refuse

BodyT = TypeVar("BodyT", bound=BaseModel)

_QUICK_VALUES = 100
"""Rendered in the event loop, in less time than a thread would take to hand over."""
# One, so that however many large answers there are, the event loop shares the interpreter with one of them.
_RENDERING = ThreadPoolExecutor(1, thread_name_prefix="winnow-answers")


async def read_body(request: Request, model: type[BodyT]) -> BodyT:
    """The body of ``request`` as a ``model``. Refuses with 400 what is no JSON, with 422 what is no ``model``.

    JSON here is what every parser reads alike: no repeated keys, no ``NaN``, no half of a surrogate pair.
    """
    raw = await request.body()
    if not raw:
        raise refuse(422, "the body is missing; expected JSON")
    _check_content_type(request.headers.get("content-type", ""))
    try:
        content = jiter.from_json(raw, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
    except ValueError as error:
        raise refuse(400, f"the body is not JSON in UTF-8: {str(error)[:80]}") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from None


def json_response(content: Any) -> Response:
    """``content`` as JSON: plain values, dataclasses, arrays of float32. A field of ``None`` is ``null``."""
    return Response(_dump(content), media_type="application/json")


async def json_response_of(render: Callable[[], Any], *, num_values: int) -> Response:
    """What ``render`` gives, as JSON. With many values, passages or numbers, this is done beside the event loop.

    What is large in it should be a ``piece`` each: one call of the JSON library holds the interpreter's lock.
    """
    if num_values <= _QUICK_VALUES:
        return json_response(render())
    return await asyncio.get_running_loop().run_in_executor(_RENDERING, lambda: json_response(render()))


def piece(content: Any) -> orjson.Fragment:
    """``content`` as JSON already, to be put into a larger answer."""
    return orjson.Fragment(_dump(content))


def _dump(content: Any) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body with ``read_body``."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def _check_content_type(content_type: str) -> None:
    # A web page may send anything else to a server on loopback without asking the browser for leave (CORS).
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise refuse(422, f"content-type: expected application/json, got {ascii(kind)[:80]}")
