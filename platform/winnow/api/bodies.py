"""Request bodies in, answers out, each exactly once: bytes to a checked model, plain values to bytes.

FastAPI would parse with one library and check with another, and check what we answer once more. ``describe_body``
tells the OpenAPI description what it cannot see then.
"""

from typing import Any, TypeVar

import jiter
import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from winnow.api.errors import refuse

BodyT = TypeVar("BodyT", bound=BaseModel)


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
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body with ``read_body``."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def _check_content_type(content_type: str) -> None:
    # A web page may send anything else to a server on loopback without asking the browser for leave (CORS).
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise refuse(422, f"content-type: expected application/json, got {ascii(kind)[:80]}")
